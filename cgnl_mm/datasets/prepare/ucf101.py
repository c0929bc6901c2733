"""Write the annotation files of UCF101 from its official splits."""

from argparse import Namespace
from pathlib import Path, PurePosixPath

from ...errors import SetupError
from . import files, lists

CLASSES = 101
# Number of clips for training and test in the splits 1 to 3.
OFFICIAL = (9537, 3783, 9586, 3734, 9624, 3696)
PARTS = dict(train='trainlist', val='testlist')
# The configs read these folders.
VIDEOS, OUT = Path('data/ucf101/videos'), Path('data/ucf101')


def prepare_ucf101(args: Namespace) -> None:
    """Write the annotation files, and print what they hold.

    Args:
        args (Namespace): The options of tools/data/ucf101.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If a split file has a fault, no clip is usable, or the
            lists cannot be written.
    """
    classes = read_classes(args.splits / 'classInd.txt')
    rows = {
        (part, split): read_list(args.splits / f'{stem}0{split}.txt', classes)
        for split in (1, 2, 3)
        for part, stem in PARTS.items()
    }
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    found = files.find_files(args.videos, ('.avi',), '--videos')
    places = locate(names, found)
    paths = [args.videos / places[name] for name in names]
    faults = files.find_faults(paths, 'clips', args, files.decode_clip)
    reasons = {
        name: reason or lists.listing_fault(places[name], ' ')
        for name, reason in zip(names, faults)
    }
    reports = []
    for (part, split), row in rows.items():
        whys = reasons
        if part == 'train':
            tested = dict.fromkeys(rows['val', split], 'also in the test list')
            whys = reasons | tested
        listed = [
            (name, PurePosixPath(name).parts[0], whys[name], places[name])
            for name in dict.fromkeys(row)
        ]
        title = f'{part} {split}'
        reports.append(files.Report(title, classes, listed, 'clips'))
    files.print_reports(reports, OFFICIAL, args.per_class)
    repeated = sum(len(row) - len(set(row)) for row in rows.values())
    more = (
        f', {repeated} repeated lines, '
        f'{len({*found} - {*places.values()})} .avi files in no list'
    )
    why = f', classInd.txt {len(classes)}'
    files.print_classes('UCF101', CLASSES, classes, more, why)
    form = 'ucf101_{}_split_{}_videos.txt'
    contents = files.make_lists(reports, args.videos, form=form)
    if lists.write_lists(args.out, contents, args.dry_run):
        is_inside = args.out.resolve() / 'videos' == args.videos.resolve()
        links = {OUT: args.out}
        lists.print_links(
            links if is_inside else {**links, VIDEOS: args.videos}
        )


def read_classes(path: Path) -> list[str]:
    """Read the names of classInd.txt, lines ``INDEX NAME`` from 1.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed or out of order; it is named.
    """
    names = []
    origin = '--splits takes the folder with it'
    for place, line in lists.read_lines(path, origin):
        number, _, name = line.partition(' ')
        if number != str(len(names) + 1) or not name.isprintable():
            raise SetupError(
                f'{place}: {line!r} is not "{len(names) + 1} NAME"'
            )
        if not name or '/' in name or name in names:
            raise SetupError(f'{place}: {name!r} is not a new class')
        names.append(name)
    return names


def read_list(path: Path, classes: list[str]) -> list[str]:
    """Read one split file, lines ``CLASS/NAME.avi`` and maybe the label.

    Args:
        path (Path): The file.
        classes (list[str]): Name of each label.

    Returns:
        list[str]: The paths.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or its
            label is not that of its class; it is named.
    """
    names = []
    known = {name: str(index) for index, name in enumerate(classes, 1)}
    origin = '--splits takes the folder of the split files'
    for place, line in lists.read_lines(path, origin):
        name, _, label = line.partition(' ')
        folder, *rest = PurePosixPath(lists.relative_path(name, place)).parts
        if len(rest) != 1 or folder not in known:
            raise SetupError(
                f'{place}: {name!r} is not CLASS/NAME.avi with a class of '
                'classInd.txt'
            )
        if label and label.strip() != known[folder]:
            raise SetupError(
                f'{place}: label {label!r}, but {folder} is number '
                f'{known[folder]} in classInd.txt'
            )
        names.append(name)
    return names


def locate(names: list[str], found: list[str]) -> dict[str, str]:
    """Find the place of each clip of the lists; its own name if nowhere.

    The path of the list comes first, then any file of its name: a folder of
    clips may be flat.
    """
    known = {PurePosixPath(path).name: path for path in reversed(found)}
    known.update((path, path) for path in found)
    return {
        name: known.get(name) or known.get(PurePosixPath(name).name, name)
        for name in names
    }
