"""Check COCO 2017 as mmdet reads it; unpack its archives."""

import os
import tempfile
import zipfile
import zlib
from argparse import Namespace
from collections import Counter
from pathlib import Path

from rich.progress import track

from ...errors import MissingDataError, SetupError
from ...hosts import require_host, require_mmcv
from . import annotations, files, lists

OFFICIAL = dict(train2017=118_287, val2017=5_000)
# The configs read this folder.
ROOT = Path('data/coco')
# What zipfile raises: RuntimeError if the archive is encrypted, UnicodeError
# for a damaged name.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    UnicodeError,
)


def prepare_coco(args: Namespace) -> None:
    """Unpack archives, check the annotations and images, print the counts.

    Args:
        args (Namespace): The options of tools/data/coco.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        MissingHostError: If mmdet is not installed.
        SetupError: If an archive or an annotation has a fault, or a file
            cannot be written.
    """
    require_mmcv()
    require_host('mmdet')
    from mmdet.datasets import CocoDataset  # a host

    for archive in args.unzip:
        unpack(archive, args)
    if args.unzip and args.dry_run:
        print('dry run: nothing unpacked')
        return
    classes = CocoDataset.METAINFO['classes']
    reports = [look_at(split, classes, args) for split in OFFICIAL]
    files.print_reports(reports, OFFICIAL.values(), args.per_class)
    unusable = files.unusable_list(reports)
    if unusable:
        print(
            'warning: mmdet reads every image of its annotations; remove '
            'those above and --unzip again'
        )
    if args.out:
        contents = {files.UNUSABLE: unusable}
        lists.write_lists(args.out, contents, args.dry_run)
    if not args.dry_run:
        lists.print_links({ROOT: args.root})


def look_at(
    split: str, classes: tuple[str, ...], args: Namespace
) -> files.Report:
    """Check the annotations of a split, and look at its images."""
    path = args.root / f'annotations/instances_{split}.json'
    content, folder = read_annotations(path), args.root / split
    names = {item['id']: item['name'] for item in content['categories']}
    warn_of_order(path, [*names.values()], classes)
    if not folder.is_dir():
        raise MissingDataError(
            f'no folder {folder}: it is in {split}.zip, which --unzip unpacks'
        )
    images = [item['file_name'] for item in content['images']]
    paths = [folder / name for name in images]
    faults = files.find_faults(paths, split, args, files.decode_image)
    rows = [(name, None, why, name) for name, why in zip(images, faults)]
    report = files.Report(split, classes, rows, counted=' instances')
    report.per_class = Counter(
        names[item['category_id']] for item in content['annotations']
    )
    return report


def read_annotations(path: Path) -> dict:
    """Read one annotation file and check what mmdet needs of it.

    Args:
        path (Path): The json file.

    Returns:
        dict: Its content, with images, annotations and categories.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If it is not a whole json file, or has a mistake; the
            first entry with one is named.
    """
    if not path.is_file():
        raise MissingDataError(
            f'{path} does not exist: it is in annotations_trainval2017.zip, '
            'which --unzip unpacks'
        )
    content, names = annotations.read_coco(path), set()
    for number, item in enumerate(content['images']):
        place = f'{path}: images[{number}]'
        name = lists.relative_path(item['file_name'], place)
        lists.refuse_again(names, f'file_name {name!r}', place)
    for key, kind in dict(image_id='images', category_id='categories').items():
        known = {item['id'] for item in content[kind]}
        for number, item in enumerate(content['annotations']):
            if item[key] not in known:
                raise SetupError(
                    f'{path}: annotations[{number}]: {key} {item[key]!r} is '
                    'unknown'
                )
    return content


def warn_of_order(
    path: Path, names: list[str], classes: tuple[str, ...]
) -> None:
    """Warn where mmdet would give other labels than everybody else's.

    mmdet labels the known names by their order in the file.
    """
    if [name for name in names if name in classes] == list(classes):
        return
    missing = [name for name in classes if name not in names]
    what = f'without {", ".join(missing)}' if missing else 'in another order'
    print(
        f"warning: {path}: mmdet's {len(classes)} classes {what}; the labels "
        'are not those of others'
    )


def unpack(archive: Path, args: Namespace) -> None:
    """Unpack an archive below the root, without what is there already.

    Each file is written beside its place and renamed when it is whole: its
    checksum is right. Nothing leaves the folder.

    Args:
        archive (Path): A zip file.
        args (Namespace): The options.

    Raises:
        MissingDataError: If the archive does not exist.
        SetupError: If it is broken, has a path that leaves the folder, or
            the folder cannot be written.
    """
    if not archive.is_file():
        raise MissingDataError(f'--unzip: {archive} does not exist')
    try:
        with zipfile.ZipFile(archive) as file:
            wanted = [
                info
                for info in file.infolist()
                if not is_there(args.root, info, archive)
            ]
            print(f'{archive}: {len(wanted)} files to unpack to {args.root}')
            if args.dry_run or not wanted:
                return
            args.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory('', '.', args.root) as partial:
                for info in track(wanted, archive.name, disable=args.quiet):
                    place = args.root / info.filename
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file.extract(info, partial), place)
    except BROKEN as error:
        raise SetupError(
            f'{archive} cannot be unpacked to {args.root}: {error}'
        ) from None


def is_there(root: Path, info: zipfile.ZipInfo, archive: Path) -> bool:
    """Say whether a file of an archive, or a file of its size, is there."""
    place = root / lists.relative_path(info.filename, str(archive))
    return info.is_dir() or (
        place.is_file() and place.stat().st_size == info.file_size
    )
