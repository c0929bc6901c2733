"""Check COCO 2017 as mmdet reads it; unpack its archives if asked.

    python tools/data/coco.py --root data/coco

checks annotations/instances_{train,val}2017.json (they parse, ids are unique
and known, the classes are mmdet's in mmdet's order) and that each image is in
train2017/ or val2017/. Nothing is written but with --out, which gets the list
of unusable images (split, path, class, reason), or with

    python tools/data/coco.py --root data/coco --unzip train2017.zip \\
        val2017.zip annotations_trainval2017.zip

which unpacks what is not there yet.
"""

import argparse
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from ...errors import MissingDataError, SetupError
from .lists import (
    UNUSABLE,
    Report,
    add_options,
    decode_image,
    find_faults,
    make_parser,
    print_links,
    print_reports,
    read_text,
    relative_path,
    unusable_list,
    write_all,
)

OFFICIAL = dict(train2017=118_287, val2017=5_000)
# where the configs look
ROOT = Path('data/coco')
# what mmdet needs of each entry; a number where it computes with it
FIELDS = dict(
    images=dict(id=int, file_name=str, height=int, width=int),
    annotations=dict(
        id=int,
        image_id=int,
        category_id=int,
        bbox=list,
        area=(int, float),
    ),
    categories=dict(id=int, name=str),
)


def mmdet_classes() -> 'tuple[str, ...]':
    """Names of the 80 classes, in the order of their labels.

    Raises:
        MissingHostError: If mmdet is not installed.
    """
    import cgnl_mm  # noqa: F401  repairs mmdet before it is imported
    from cgnl_mm.hosts import require_host, require_mmcv

    require_mmcv()
    require_host('mmdet')
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


def read_annotations(path: Path) -> dict:
    """Read one annotation file and check what mmdet needs of it.

    Args:
        path (Path): The json file.

    Returns:
        dict: Its content, with images, annotations and categories.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If it is no json, or an entry is malformed, repeated or
            refers to nothing; the entry is named.
    """
    if not path.is_file():
        raise MissingDataError(
            f'{path} does not exist: it is in annotations_trainval2017.zip, '
            'which --unzip unpacks'
        )
    try:
        content = json.loads(read_text(path), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SetupError(
            f'{path} is no whole json file: {error}. Unpack it again'
        ) from None
    if not isinstance(content, dict):
        raise SetupError(f'{path}: no images, annotations and categories')
    ids = {
        kind: check_entries(content.get(kind), fields, f'{path}: {kind}')
        for kind, fields in FIELDS.items()
    }
    for number, item in enumerate(content['annotations']):
        place = f'{path}: annotations[{number}]'
        for key, kind in (
            ('image_id', 'images'),
            ('category_id', 'categories'),
        ):
            if item[key] not in ids[kind]:
                raise SetupError(f'{place}: {key} {item[key]} is unknown')
        box = item['bbox']
        if len(box) != 4 or not all(type(n) in (int, float) for n in box):
            raise SetupError(f'{place}: bbox {box} is not x, y, width, height')
    seen = set()
    for number, item in enumerate(content['images']):
        name = relative_path(item['file_name'], f'{path}: images[{number}]')
        if name in seen:
            raise SetupError(f'{path}: images[{number}]: {name} again')
        seen.add(name)
    return content


def refuse_constant(name: str) -> None:
    """Raise ValueError: NaN and Infinity would spoil a training."""
    raise ValueError(f'{name} is no json')


def check_entries(entries, fields: dict, place: str) -> 'set[int]':
    """Check the fields of a list of entries; return their ids.

    Raises:
        SetupError: If an entry lacks a field or its id is not the first of
            its kind; it is named.
    """
    if not isinstance(entries, list) or not entries:
        raise SetupError(f'{place} is missing or empty')
    ids = set()
    for number, item in enumerate(entries):
        for key, kind in fields.items():
            value = item.get(key) if isinstance(item, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise SetupError(
                    f'{place}[{number}]: {key} is {shorten(value)}'
                )
        if item['id'] in ids:
            raise SetupError(f'{place}[{number}]: id {item["id"]} again')
        ids.add(item['id'])
    return ids


def shorten(value) -> str:
    """Return the beginning of a value's representation."""
    return repr(value)[:60]


def check_classes(content: dict, path: Path, classes) -> None:
    """Warn where mmdet would give other labels than everybody else's.

    Its labels are the ranks of the known names in the order of the file.
    """
    names = [item['name'] for item in content['categories']]
    known = tuple(name for name in names if name in classes)
    if known == tuple(classes):
        return
    missing = [name for name in classes if name not in names]
    what = f'without {", ".join(missing)}' if missing else 'in another order'
    print(
        f"warning: {path}: mmdet's {len(classes)} classes {what}; the labels "
        'are not those of others'
    )


def unzip(archive: Path, root: Path, args: argparse.Namespace) -> None:
    """Unpack an archive below ``root``, without what is there already.

    Each file is written beside its place and renamed when it is whole (the
    archive's checksum is right). Nothing leaves the folder.

    Args:
        archive (Path): A zip file.
        root (Path): Folder to unpack to.
        args (Namespace): With :func:`add_options`.

    Raises:
        MissingDataError: If the archive does not exist.
        SetupError: If it is broken, has a path that leaves the folder, or
            the folder cannot be written.
    """
    from rich.progress import track

    if not archive.is_file():
        raise MissingDataError(f'--unzip: {archive} does not exist')
    try:
        with zipfile.ZipFile(archive) as file:
            wanted = []
            for info in file.infolist():
                relative_path(info.filename, str(archive))
                place = root / info.filename
                if info.is_dir() or (
                    place.is_file() and place.stat().st_size == info.file_size
                ):
                    continue
                wanted.append(info)
            print(f'{archive}: {len(wanted)} files to unpack to {root}')
            if args.dry_run or not wanted:
                return
            root.mkdir(parents=True, exist_ok=True)
            needed = sum(info.file_size for info in wanted)
            free = shutil.disk_usage(root).free
            if needed > free:
                raise SetupError(
                    f'{root} has {free / 1e9:.1f} GB free, {archive} needs '
                    f'{needed / 1e9:.1f} GB'
                )
            with tempfile.TemporaryDirectory(dir=root, prefix='.') as partial:
                for info in track(wanted, archive.name, disable=args.quiet):
                    whole = Path(partial, 'whole')
                    with file.open(info) as source, whole.open('wb') as sink:
                        shutil.copyfileobj(source, sink)
                    place = root / info.filename
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(whole, place)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,  # encrypted, or packed by an unknown method
    ) as error:
        raise SetupError(f'{archive} is broken: {error}') from None
    except OSError as error:
        raise SetupError(
            f'{archive} cannot be unpacked to {root}: {error.strerror}'
        ) from None


def main(argv: 'list[str] | None' = None) -> None:
    args = parse_args(argv)
    classes = mmdet_classes()
    for archive in args.unzip:
        unzip(archive, args.root, args)
    if args.unzip and args.dry_run:
        print('dry run: nothing unpacked')
        return

    reports = []
    for split in OFFICIAL:
        path = args.root / f'annotations/instances_{split}.json'
        content = read_annotations(path)
        check_classes(content, path, classes)
        folder = args.root / split
        if not folder.is_dir():
            raise MissingDataError(
                f'no folder {folder}: it is in {split}.zip, which --unzip '
                'unpacks'
            )
        names = [item['file_name'] for item in content['images']]
        files = [folder / name for name in names]
        report = Report(split, classes, counted=' instances')
        faults = find_faults(files, split, args, decode_image)
        for name, reason in zip(names, faults):
            report.add(name, None, reason)
        labels = {item['id']: item['name'] for item in content['categories']}
        report.per_class = Counter(
            labels[item['category_id']] for item in content['annotations']
        )
        reports.append(report)
    print_reports(reports, args, OFFICIAL)
    if any(report.unusable for report in reports):
        print(
            'warning: mmdet reads every image of its annotations; remove '
            'those above and --unzip again'
        )
    if args.out:
        write_all(args.out, {UNUSABLE: unusable_list(reports)}, args)
    if not args.dry_run:
        print_links({ROOT: args.root})


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='folder of annotations/, train2017/ and val2017/ (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--unzip',
        type=Path,
        nargs='+',
        default=[],
        metavar='ZIP',
        help='archives to unpack to the root first',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help=f'folder for {UNUSABLE}; default: unusable images are only '
        'printed',
    )
    add_options(parser, decode=False, what='each image')
    return parser.parse_args(argv)
