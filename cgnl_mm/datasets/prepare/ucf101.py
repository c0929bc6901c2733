"""Write the annotation files of UCF101 from its official splits."""

from argparse import Namespace
from pathlib import Path

from rich.progress import track

from ...errors import MissingDataError, SetupError
from ..decode import inspect_file
from . import lists
from .clips import Clip, write_annotations

# Number of clips for training and test in the splits 1 to 3.
OFFICIAL = (9537, 3783, 9586, 3734, 9624, 3696)
# The configs read these folders.
VIDEOS, OUT = Path('data/ucf101/videos'), Path('data/ucf101')
ORIGIN = '--splits takes the folder of the split files'


def prepare_ucf101(args: Namespace) -> None:
    """Write the annotation files, and print what they hold.

    Args:
        args (Namespace): The options of tools/data/ucf101.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If a split file has a fault, or no clip is usable.
    """
    if not args.videos.is_dir():
        raise MissingDataError(f'--videos: no folder {args.videos}')
    classes = read_classes(args.splits / 'classInd.txt')
    splits = {}
    for split in (1, 2, 3):
        train, test = (
            read_list(args.splits / f'{part}list0{split}.txt', classes)
            for part in ('train', 'test')
        )
        tested = dict.fromkeys(test, 'also in the test list')
        form = 'ucf101_{}_split_{}_videos.txt'
        parts = ('train', train, tested), ('val', test, {})
        for part, names, known in parts:
            splits[form.format(part, split)] = [
                Clip(
                    name,
                    label,
                    known.get(name) or inspect_file(args.videos / name) or '',
                    name,
                )
                for name, label in track(names.items(), part, transient=True)
            ]
    write_annotations(args.out, splits, classes, OFFICIAL, ' ')


def read_classes(path: Path) -> list[str]:
    """Read the names of the classes, lines ``NUMBER NAME``.

    Args:
        path (Path): The file.

    Returns:
        list[str]: Name of each label.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed or out of order; it is named.
    """
    names = []
    for place, line in lists.read_lines(path, ORIGIN):
        number, _, name = line.partition(' ')
        if number != str(len(names) + 1) or not name.isprintable():
            raise SetupError(
                f'{place}: {line!r} is not "{len(names) + 1} NAME"'
            )
        if not name or '/' in name or name in names:
            raise SetupError(f'{place}: {name!r} is not a new class')
        names.append(name)
    return names


def read_list(path: Path, classes: list[str]) -> dict[str, str]:
    """Read one split file, lines ``CLASS/NAME.avi`` and maybe the label.

    Args:
        path (Path): The file.
        classes (list[str]): Name of each label.

    Returns:
        dict[str, str]: The class of each path.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or its
            label is not that of its class; it is named.
    """
    names = {}
    known = {name: str(index) for index, name in enumerate(classes, 1)}
    for place, line in lists.read_lines(path, ORIGIN):
        name, _, label = line.partition(' ')
        folder, *rest = lists.relative_path(name, place).parts
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
        names[name] = folder
    return names
