"""Check CUB-200-2011 as mmpretrain reads it; convert lists of images.

The official tree (images/, images.txt, image_class_labels.txt,
train_test_split.txt, classes.txt) is used as it is:

    python tools/data/cub.py --root data/CUB_200_2011

Lists as the author's code reads them, lines ``PATH LABEL`` with paths below
images/ and labels from 0, are written to DIR/train.list and DIR/val.list:

    python tools/data/cub.py --write-author-lists DIR

and turned into an official tree, whose images/ is a link:

    python tools/data/cub.py --from-author-lists train.list val.list \\
        --images IMAGES --out data/CUB_200_2011
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError
from .lists import (
    UNUSABLE,
    Report,
    add_options,
    decode_image,
    find_faults,
    listing_fault,
    make_parser,
    print_links,
    print_reports,
    read_lines,
    relative_path,
    unusable_list,
    write_all,
)

NUM_CLASSES = 200
OFFICIAL = dict(train=5994, test=5794)
# where the configs look
ROOT = Path('data/CUB_200_2011')
HINT = '--root takes the unpacked CUB_200_2011'
NUMBER = re.compile('[1-9][0-9]{0,8}')


@dataclass
class Tree:
    """The text files of one tree.

    Attributes:
        classes (list[str]): Name of each label, as of its folder.
        images (list[tuple[str, int, str]]): Path below images/, label from 0,
            'train' or 'test'.
    """

    classes: 'list[str]'
    images: 'list[tuple[str, int, str]]'


def read_table(path: Path) -> 'dict[int, tuple[str, str]]':
    """Read one official file, lines ``ID VALUE``.

    As strict as mmpretrain, which reads no blank line, no byte order mark and
    no value with a blank.

    Returns:
        dict[int, tuple[str, str]]: For each id its value and its place.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed or its id repeated; it is named.
    """
    table = {}
    for place, line in read_lines(path, HINT, strict=True):
        fields = line.split()
        if len(fields) != 2 or not NUMBER.fullmatch(fields[0]):
            raise SetupError(f'{place}: {line!r} is not "ID VALUE"')
        number = int(fields[0])
        if number in table:
            raise SetupError(
                f'{place}: id {number} again, as in {table[number][1]}'
            )
        table[number] = fields[1], place
    if not table:
        raise SetupError(f'{path} is empty: {HINT}')
    return table


def read_tree(root: Path) -> Tree:
    """Read the official text files.

    Raises:
        MissingDataError: If one does not exist.
        SetupError: If they contradict each other; the line is named.
    """
    names = read_table(root / 'classes.txt')
    classes = [names.get(i, ('',))[0] for i in range(1, len(names) + 1)]
    if '' in classes:
        raise SetupError(
            f'{root / "classes.txt"}: no class {classes.index("") + 1}: ids '
            f'must go from 1 to {len(classes)}'
        )
    paths = read_table(root / 'images.txt')
    labels = read_table(root / 'image_class_labels.txt')
    splits = read_table(root / 'train_test_split.txt')
    for name, table in (
        ('image_class_labels.txt', labels),
        ('train_test_split.txt', splits),
    ):
        different = sorted(paths.keys() ^ table.keys())
        if different:
            raise SetupError(
                f'{root}: images.txt and {name} have not the same ids: '
                f'{len(different)} differ, the first is {different[0]}'
            )
    images, seen = [], {}
    for number, (path, place) in paths.items():
        relative_path(path, place)
        if path in seen:
            raise SetupError(f'{place}: {path} again, as in {seen[path]}')
        seen[path] = place
        text, place = labels[number]
        if not NUMBER.fullmatch(text) or int(text) > len(classes):
            raise SetupError(
                f'{place}: class {text!r}, but classes.txt has 1 to '
                f'{len(classes)}'
            )
        label = int(text) - 1
        folder = PurePosixPath(path).parent.name
        if folder != classes[label]:
            raise SetupError(
                f'{place}: image {number} is of class {text}, '
                f'{classes[label]!r}, but lies in {folder!r}'
            )
        flag, place = splits[number]
        if flag not in ('0', '1'):
            raise SetupError(f'{place}: {flag!r} is neither 0 nor 1')
        images.append((path, label, 'train' if flag == '1' else 'test'))
    return Tree(classes, images)


def read_author_lists(train: Path, test: Path) -> Tree:
    """Read lists with lines ``PATH LABEL``, labels from 0.

    The classes are named as the folders. Paths may begin with ``images/``.

    Args:
        train (Path): List of the training images.
        test (Path): List of the test images.

    Raises:
        MissingDataError: If a list does not exist.
        SetupError: If a line is malformed or contradicts another one; it is
            named.
    """
    names, images, seen = {}, [], {}
    for split, path in (('train', train), ('test', test)):
        for place, line in read_lines(path, '--from-author-lists'):
            name, _, text = line.rpartition(' ')
            if text != '0' and not NUMBER.fullmatch(text):
                raise SetupError(f'{place}: no label at the end: {line!r}')
            name = relative_path(name.strip(), place)
            name = name.removeprefix('./').removeprefix('images/')
            relative_path(name, place)  # again: of images//etc it was none
            folder = PurePosixPath(name).parent.name
            if listing_fault(name, ' ') or not folder:
                raise SetupError(
                    f'{place}: {name!r} must be CLASS/NAME without blanks'
                )
            if name in seen:
                raise SetupError(f'{place}: {name} again, as in {seen[name]}')
            seen[name] = place
            label = int(text)
            if names.setdefault(label, folder) != folder:
                raise SetupError(
                    f'{place}: label {label} for {folder!r}, further up for '
                    f'{names[label]!r}'
                )
            images.append((name, label, split))
    classes = [names.get(label, '') for label in range(len(names))]
    if '' in classes:
        raise SetupError(
            f'{train} and {test}: no image has label {classes.index("")}; '
            'labels must go from 0 without a gap'
        )
    double = sorted({name for name in classes if classes.count(name) > 1})
    if double:
        raise SetupError(f'{train} and {test}: {double[0]!r} has two labels')
    return Tree(classes, images)


def official_files(tree: Tree) -> 'dict[str, str]':
    """Return the text of the official files."""
    rows = list(enumerate(tree.images, 1))
    return {
        'classes.txt': table(enumerate(tree.classes, 1)),
        'images.txt': table((i, path) for i, (path, *_) in rows),
        'image_class_labels.txt': table((i, k + 1) for i, (_, k, _) in rows),
        'train_test_split.txt': table(
            (i, int(split == 'train')) for i, (*_, split) in rows
        ),
    }


def table(rows) -> str:
    """Return lines with two fields."""
    return ''.join(f'{first} {second}\n' for first, second in rows)


def refuse_other_tree(folder: Path, images: Path) -> None:
    """Refuse to build a tree over one that is not ours.

    Args:
        folder (Path): images/ of the tree: absent, or a link that we made.
        images (Path): Where it has to lead.

    Raises:
        SetupError: If there is something else.
    """
    if folder.is_symlink():
        if folder.resolve() != images.resolve():
            raise SetupError(
                f'{folder} leads to another folder than {images}: choose '
                'another --out, or remove it'
            )
    elif folder.exists() or (folder.parent / 'images.txt').exists():
        raise SetupError(
            f'{folder.parent} holds an official tree, whose lists would be '
            'replaced: choose another --out'
        )


def link_images(folder: Path, images: Path) -> None:
    """Make ``folder`` lead to ``images``, unless it does.

    Raises:
        SetupError: If it cannot be made.
    """
    if folder.is_symlink():
        return
    try:
        folder.symlink_to(images.resolve(), target_is_directory=True)
    except OSError as error:
        raise SetupError(f'cannot make {folder}: {error.strerror}') from None


def main(argv: 'list[str] | None' = None) -> None:
    args = parse_args(argv)
    if args.from_author_lists:
        root, images = args.out, args.images
        refuse_other_tree(root / 'images', images)
        tree = read_author_lists(*args.from_author_lists)
    else:
        root, images = args.root, args.root / 'images'
        tree = read_tree(root)
    if not images.is_dir():
        raise MissingDataError(f'no folder {images}')

    paths = [images / path for path, *_ in tree.images]
    faults = find_faults(paths, 'images', args, decode_image)
    reports = {split: Report(split, tree.classes) for split in OFFICIAL}
    for (path, label, split), reason in zip(tree.images, faults):
        reports[split].add(path, tree.classes[label], reason)
    print_reports(list(reports.values()), args, OFFICIAL)
    print(f'{len(tree.classes)} classes')
    if len(tree.classes) != NUM_CLASSES:
        print(f'warning: CUB-200-2011 has {NUM_CLASSES} classes')
    if any(report.unusable for report in reports.values()):
        print(
            'warning: mmpretrain reads every image of images.txt; remove '
            'those above and unpack the archive again'
        )

    if args.from_author_lists:
        if write_all(root, official_files(tree), args):
            link_images(root / 'images', images)
    if args.write_author_lists:
        contents = {
            f'{name}.list': table((p, k) for p, k, s in tree.images if s == of)
            for name, of in (('train', 'train'), ('val', 'test'))
        }
        write_all(args.write_author_lists, contents, args)
    if args.out and not args.from_author_lists:
        write_all(args.out, {UNUSABLE: unusable_list(reports.values())}, args)
    if not args.dry_run:
        print_links({ROOT: root})


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--root',
        type=Path,
        help=f'the official tree (default: {ROOT})',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help=f'folder for {UNUSABLE} (split, path, class, reason), or for '
        'the tree; default: unusable images are only printed',
    )
    parser.add_argument(
        '--write-author-lists',
        type=Path,
        metavar='DIR',
        help='write train.list and val.list',
    )
    parser.add_argument(
        '--from-author-lists',
        type=Path,
        nargs=2,
        metavar=('TRAIN', 'VAL'),
        help='build a tree from lists; with --images and --out',
    )
    parser.add_argument(
        '--images', type=Path, help='folder that the paths of the lists are in'
    )
    add_options(parser, decode=True, what='each image')
    args = parser.parse_args(argv)
    if bool(args.from_author_lists) != bool(args.images):
        parser.error('--from-author-lists and --images belong together')
    if args.from_author_lists and not args.out:
        parser.error('--from-author-lists needs --out')
    if args.from_author_lists and args.write_author_lists:
        parser.error('--from-author-lists or --write-author-lists, not both')
    if args.from_author_lists and args.root:
        parser.error('--from-author-lists or --root, not both')
    args.root = args.root or ROOT
    return args
