"""Write the annotation files of UCF101 from its official splits.

From the split files (classInd.txt, trainlist01.txt, ..., testlist03.txt) and
the clips, in class folders or all in one folder; the clips stay where they
are:

    python tools/data/ucf101.py --splits ucfTrainTestlist \\
        --videos data/ucf101/videos --out data/ucf101

Written, as mmaction2 names them: ucf101_{train,val}_split_{1,2,3}_videos.txt
(path, blank, label from 0), and classes.txt (name of each label, in the order
of classInd.txt), unusable.txt (split, path, class, reason).
"""

import argparse
from pathlib import Path, PurePosixPath

from ...errors import SetupError
from .lists import (
    UNUSABLE,
    Report,
    add_options,
    decode_clip,
    find_faults,
    listing_fault,
    make_parser,
    print_links,
    print_reports,
    read_lines,
    relative_path,
    unusable_list,
    walk,
    write_all,
)

NUM_CLASSES = 101
# number of clips for training and test, splits 1 to 3
OFFICIAL = ((9537, 3783), (9586, 3734), (9624, 3696))
PARTS = dict(train='trainlist', val='testlist')
# where the configs look
VIDEOS, OUT = Path('data/ucf101/videos'), Path('data/ucf101')


def read_classes(path: Path) -> 'list[str]':
    """Read classInd.txt, lines ``INDEX NAME`` from 1.

    Returns:
        list[str]: The names in order.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed or out of order; it is named.
    """
    names = []
    for place, line in read_lines(path, '--splits takes the folder with it'):
        number, _, name = line.partition(' ')
        if number != str(len(names) + 1) or not name.isprintable():
            raise SetupError(
                f'{place}: {line!r} is not "{len(names) + 1} NAME"'
            )
        if not name or '/' in name or name in names:
            raise SetupError(f'{place}: {name!r} is no new class')
        names.append(name)
    if not names:
        raise SetupError(f'{path} is empty')
    return names


def read_list(path: Path, classes: 'list[str]') -> 'tuple[dict, int]':
    """Read one split file, lines ``CLASS/NAME.avi`` and maybe the label.

    Args:
        path (Path): The file.
        classes (list[str]): Name of each label.

    Returns:
        tuple[dict[str, str], int]: For each path its class, in order, and the
        number of repetitions.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or its
            label is not that of its class; it is named.
    """
    clips, repeated = {}, 0
    origin = '--splits takes the folder of the split files'
    known = {name: str(index) for index, name in enumerate(classes, 1)}
    for place, line in read_lines(path, origin):
        name, _, label = line.partition(' ')
        relative_path(name, place)
        parts = PurePosixPath(name).parts
        if len(parts) != 2 or parts[0] not in known:
            raise SetupError(
                f'{place}: {name!r} is not CLASS/NAME.avi with a class of '
                'classInd.txt'
            )
        if label and label.strip() != known[parts[0]]:
            raise SetupError(
                f'{place}: label {label!r}, but {parts[0]} is number '
                f'{known[parts[0]]} in classInd.txt'
            )
        repeated += name in clips
        clips[name] = parts[0]
    return clips, repeated


def find_files(root: Path) -> 'dict[str, list[str]]':
    """Find the .avi files below ``root``.

    Returns:
        dict[str, list[str]]: For each file name its paths relative to
        ``root``, sorted.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    files = {}
    for folder, names in walk(root, '--videos'):
        for name in names:
            if name.lower().endswith('.avi'):
                path = PurePosixPath(folder, name).as_posix()
                files.setdefault(name, []).append(path)
    return files


def locate(name: str, files: 'dict[str, list[str]]') -> str:
    """Return where a clip of a list is; ``name`` itself if it is nowhere.

    Its own path comes first, then any file of its name (flat folders).
    """
    found = files.get(PurePosixPath(name).name, ())
    return name if name in found or not found else found[0]


def main(argv: 'list[str] | None' = None) -> None:
    args = parse_args(argv)
    classes = read_classes(args.splits / 'classInd.txt')
    lists, repeated = {}, 0
    for split in (1, 2, 3):
        for part, stem in PARTS.items():
            path = args.splits / f'{stem}{split:02d}.txt'
            lists[part, split], again = read_list(path, classes)
            repeated += again
    files = find_files(args.videos)
    names = list(dict.fromkeys(n for clips in lists.values() for n in clips))
    places = {name: locate(name, files) for name in names}
    paths = [args.videos / place for place in places.values()]
    faults = dict(zip(names, find_faults(paths, 'clips', args, decode_clip)))

    index = {name: number for number, name in enumerate(classes)}
    contents = {'classes.txt': '\n'.join(classes) + '\n'}
    reports, official = [], {}
    for (part, split), clips in lists.items():
        report = Report(f'{part} {split}', classes, 'clips')
        official[report.split] = OFFICIAL[split - 1][part == 'val']
        lines = []
        for name, label in clips.items():
            place = places[name]
            reason = faults[name] or listing_fault(place, ' ')
            if part == 'train' and name in lists['val', split]:
                reason = 'also in the test list'
            if report.add(name, label, reason):
                lines.append(f'{place} {index[label]}\n')
        contents[f'ucf101_{part}_split_{split}_videos.txt'] = ''.join(lines)
        reports.append(report)
    contents[UNUSABLE] = unusable_list(reports)
    print_reports(reports, args, official)
    used = set(places.values())
    others = sum(p not in used for found in files.values() for p in found)
    print(
        f'{len(classes)} classes, {repeated} repeated lines, {others} .avi '
        'files in no list'
    )
    if len(classes) != NUM_CLASSES:
        print(
            f'warning: UCF101 has {NUM_CLASSES} classes, classInd.txt '
            f'{len(classes)}'
        )
    for report in reports:
        if not report.found:
            raise SetupError(
                f'{report.split}: no usable clip below {args.videos}'
            )
    if write_all(args.out, contents, args):
        if args.out.resolve() / 'videos' == args.videos.resolve():
            print_links({OUT: args.out})
        else:
            print_links({OUT: args.out, VIDEOS: args.videos})


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--splits',
        type=Path,
        required=True,
        help='folder of classInd.txt, trainlist0N.txt and testlist0N.txt',
    )
    parser.add_argument(
        '--videos',
        type=Path,
        default=VIDEOS,
        help='folder of the clips (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=OUT,
        help='folder to write to (default: %(default)s)',
    )
    add_options(parser, decode=False, what='the first frame of each clip')
    return parser.parse_args(argv)
