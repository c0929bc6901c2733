"""Check CUB-200-2011 as mmpretrain reads it; convert lists of images."""

import os
from argparse import Namespace
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError
from . import files, lists

CLASSES = 200
OFFICIAL = dict(train=5994, test=5794)
# The configs read this folder.
ROOT = Path('data/CUB_200_2011')
# The official tree's text files, lines ``ID VALUE``.
TABLES = (
    'classes.txt',
    'images.txt',
    'image_class_labels.txt',
    'train_test_split.txt',
)
# Path below images/, label from 0, 'train' or 'test'.
Image = tuple[str, int, str]


def prepare_cub(args: Namespace) -> None:
    """Check a tree, or build one from lists, and print what it holds.

    Args:
        args (Namespace): The options of tools/data/cub.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If the text files have a fault, or a file cannot be
            written.
    """
    if args.from_author_lists:
        root, images = args.out, args.images
        refuse_other_tree(root, images)
        classes, rows = read_author_lists(*args.from_author_lists)
    else:
        root, images = args.root, args.root / 'images'
        classes, rows = read_tree(root)
    unusable = look_at(images, classes, rows, args)

    if args.from_author_lists:
        contents = official_files(classes, rows)
        if lists.write_lists(root, contents, args.dry_run):
            if not (root / 'images').is_symlink():
                (root / 'images').symlink_to(images.resolve())
    elif args.out:
        contents = {files.UNUSABLE: unusable}
        lists.write_lists(args.out, contents, args.dry_run)
    if args.write_author_lists:
        contents = {
            f'{name}.list': lists.as_lines(
                row[:2] for row in rows if row[2] == split
            )
            for name, split in dict(train='train', val='test').items()
        }
        lists.write_lists(args.write_author_lists, contents, args.dry_run)
    if not args.dry_run:
        lists.print_links({ROOT: root})


def look_at(
    images: Path, classes: list[str], rows: list[Image], args: Namespace
) -> str:
    """Look at the images of a tree; print and return what is unusable."""
    if not images.is_dir():
        raise MissingDataError(f'no folder {images}')
    paths = [images / path for path, *_ in rows]
    faults = files.find_faults(paths, 'images', args, files.decode_image)
    reports = [
        files.Report(
            of,
            classes,
            [
                (path, classes[label], reason, path)
                for (path, label, split), reason in zip(rows, faults)
                if split == of
            ],
        )
        for of in OFFICIAL
    ]
    files.print_reports(reports, OFFICIAL.values(), args.per_class)
    files.print_classes('CUB-200-2011', CLASSES, classes)
    if any(faults):
        print(
            'warning: mmpretrain reads every image of images.txt; remove '
            'those above and unpack the archive again'
        )
    return files.unusable_list(reports)


def read_table(path: Path) -> dict[str, tuple[str, str]]:
    """Read one official file, lines ``ID VALUE``.

    mmpretrain's reader takes no blank line, no byte order mark and no value
    with a blank, so this one refuses them.

    Returns:
        dict[str, tuple[str, str]]: Value and place of each id.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed or its id repeated; it is named.
    """
    table, seen, hint = {}, set(), '--root takes the unpacked CUB_200_2011'
    for place, line in lists.read_lines(path, hint, strict=True):
        number, *values = line.split()
        if len(values) != 1 or not lists.LABEL.fullmatch(number):
            raise SetupError(f'{place}: {line!r} is not "ID VALUE"')
        lists.refuse_again(seen, f'id {number}', place)
        table[number] = values[0], place
    return table


def read_tree(root: Path) -> tuple[list[str], list[Image]]:
    """Read the classes and images of the official text files.

    Raises:
        MissingDataError: If a file does not exist.
        SetupError: If the files contradict each other; the line is named.
    """
    names, paths, labels, splits = (read_table(root / x) for x in TABLES)
    classes = [names.get(str(i + 1), ('',))[0] for i in range(len(names))]
    if '' in classes:
        raise SetupError(
            f'{root / TABLES[0]}: no class {classes.index("") + 1}: ids must '
            f'go from 1 to {len(classes)}'
        )
    if not paths.keys() == labels.keys() == splits.keys():
        raise SetupError(
            f'{root}: {", ".join(TABLES[1:])} differ in their ids'
        )
    rows, seen = [], set()
    for number, (path, place) in paths.items():
        lists.refuse_again(seen, lists.relative_path(path, place), place)
        label, split = labels[number][0], splits[number][0]
        folder = PurePosixPath(path).parent.name
        if folder != names.get(label, ('',))[0] or split not in ('0', '1'):
            raise SetupError(
                f'{place}: the folder is {folder!r}; {labels[number][1]} has '
                f'class {label!r} and {splits[number][1]} {split!r}'
            )
        rows.append((path, int(label) - 1, ('test', 'train')[int(split)]))
    return classes, rows


def read_author_lists(
    train: Path, test: Path
) -> tuple[list[str], list[Image]]:
    """Read lists with lines ``PATH LABEL``, labels from 0.

    The folders name the classes. A path may begin with ``images/``.

    Args:
        train (Path): List of the training images.
        test (Path): List of the test images.

    Raises:
        MissingDataError: If a list does not exist.
        SetupError: If a line is malformed or contradicts another one; it is
            named.
    """
    names, rows, seen = {}, [], set()
    for split, path in dict(train=train, test=test).items():
        for place, name, label in lists.read_labels(
            path, '--from-author-lists'
        ):
            name = name.removeprefix('./').removeprefix('images/')
            folder = PurePosixPath(
                lists.relative_path(name, place)
            ).parent.name
            if lists.listing_fault(name, ' ') or not folder:
                raise SetupError(
                    f'{place}: {name!r} must be CLASS/NAME without blanks'
                )
            lists.refuse_again(seen, name, place)
            lists.add_once(names, int(label), folder, place)
            rows.append((name, int(label), split))
    classes = [names.get(label, '') for label in range(len(names))]
    if '' in classes or len(set(classes)) < len(classes):
        raise SetupError(
            f'{train} and {test}: labels must go from 0 without a gap, one '
            f'for each folder, not {names}'
        )
    return classes, rows


def official_files(classes: list[str], rows: list[Image]) -> dict[str, str]:
    """Return the text of the official files."""
    columns = (
        classes,
        [path for path, *_ in rows],
        [label + 1 for _, label, _ in rows],
        [int(split == 'train') for *_, split in rows],
    )
    return {
        name: lists.as_lines(enumerate(column, 1))
        for name, column in zip(TABLES, columns)
    }


def refuse_other_tree(root: Path, images: Path) -> None:
    """Refuse to build a tree over one that is not ours.

    Args:
        root (Path): Folder of the tree; its images/ is a link of ours.
        images (Path): Folder that the link leads to.

    Raises:
        SetupError: If there is something else.
    """
    link = root / 'images'
    is_ours = link.is_symlink() and link.resolve() == images.resolve()
    if not is_ours and (os.path.lexists(link) or (root / TABLES[1]).exists()):
        raise SetupError(
            f'{root} holds an official tree or one of other images, whose '
            'lists would be replaced: choose another --out'
        )
