"""Write the annotation files of ImageNet-1k for mmpretrain.

From the unpacked archives: train/WNID/*.JPEG, and val/ with class folders or,
as in the official archive, flat. Nothing is moved: mmpretrain's ``ImageNet``
reads meta/train.txt and meta/val.txt of its data_root where they exist.

    python tools/data/imagenet.py --root data/imagenet \\
        --devkit ILSVRC2012_devkit_t12

Labels are ranks of the sorted WNIDs, as in torchvision and mmpretrain. Those
of a flat val/ come from the development kit (--devkit), from a text file
with lines ``NAME WNID`` or ``NAME LABEL`` (--val-labels), or from the
meta/val.txt that is there already.

Written: train.txt and val.txt (path, blank, label), classes.txt (WNID of each
label), unusable.txt (split, path, class, reason).
"""

import argparse
import faulthandler
import multiprocessing
import re
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
    read_text,
    relative_path,
    unusable_list,
    walk,
    write_all,
)

NUM_CLASSES = 1000
OFFICIAL = dict(train=1_281_167, val=50_000)
WNID = re.compile(r'n[0-9]{8}')
# what mmpretrain takes for an image
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
# where the configs look
ROOT = Path('data/imagenet')
TRUTH = 'ILSVRC2012_validation_ground_truth.txt'


def read_devkit(folder: Path) -> 'tuple[list[str], dict[str, str]]':
    """Read the development kit, ILSVRC2012_devkit_t12.

    Args:
        folder (Path): With data/meta.mat and the ground truth beside it; or
            that data folder itself.

    Returns:
        tuple[list[str], dict[str, str]]: The sorted WNIDs, and for each name
        of a validation image its WNID.

    Raises:
        MissingDataError: If a file does not exist.
        SetupError: If one is malformed, or SciPy is missing.
    """
    data = folder / 'data' if (folder / 'data').is_dir() else folder
    meta = data / 'meta.mat'
    if not meta.is_file():
        raise MissingDataError(
            f'{meta} does not exist: --devkit takes the unpacked '
            'ILSVRC2012_devkit_t12'
        )
    try:
        with ProcessPoolExecutor(
            1,
            multiprocessing.get_context('fork'),
            # a whole kit takes half a second of CPU time
            initializer=resource.setrlimit,
            initargs=(resource.RLIMIT_CPU, (5, 5)),
        ) as pool:
            wnids = pool.submit(read_synsets, meta).result()
    except BrokenProcessPool:
        raise SetupError(
            f'{meta} is damaged, SciPy crashes on it or does not end: unpack '
            'ILSVRC2012_devkit_t12 again'
        ) from None
    wrong = [wnid for wnid in wnids.values() if not WNID.fullmatch(wnid)]
    if wrong or not wnids:
        raise SetupError(f'{meta}: {wrong or "nothing"} is no WNID')
    labels = {}
    rows = list(read_lines(data / TRUTH, '--devkit', strict=True))
    for number, (place, line) in enumerate(rows, 1):
        if line not in wnids:
            raise SetupError(f'{place}: {line!r} is no class of meta.mat')
        labels[f'ILSVRC2012_val_{number:08d}.JPEG'] = wnids[line]
    return sorted(wnids.values()), labels


def read_synsets(meta: Path) -> 'dict[str, str]':
    """Read the classes of the development kit.

    SciPy's reader, which is written in C, may crash on a damaged file, or fill
    the memory. The caller therefore runs this function in a process of its own.

    Args:
        meta (Path): The kit's meta.mat.

    Returns:
        dict[str, str]: For each number its WNID.

    Raises:
        SetupError: If SciPy is missing, or refuses the file.
    """
    faulthandler.disable()  # the caller tells of a crash in one line
    try:
        from scipy.io import loadmat
    except ImportError:
        raise SetupError(
            '--devkit is read with SciPy: run `pip install scipy`'
        ) from None
    try:
        synsets = loadmat(meta, squeeze_me=True)['synsets']
        return {
            str(int(row['ILSVRC2012_ID'])): str(row['WNID'])
            for row in synsets
            if not row['num_children']  # the others are above the classes
        }
    except Exception as error:  # whatever a broken file makes of SciPy
        raise SetupError(
            f'{meta} cannot be read as that of ILSVRC2012: '
            f'{type(error).__name__}: {error}'
        ) from None


def read_val_labels(
    path: Path, classes: 'list[str]', origin: str
) -> 'dict[str, str]':
    """Read lines ``NAME WNID`` or ``NAME LABEL``.

    Args:
        path (Path): The file.
        classes (list[str]): WNID of each label.
        origin (str): Which option names it.

    Returns:
        dict[str, str]: For each name, without folders, its WNID.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or it
            contradicts another one; it is named.
    """
    labels, known = {}, {*classes, *map(str, range(len(classes)))}
    for place, line in read_lines(path, origin):
        name, _, label = line.rpartition(' ')
        if label not in known:
            raise SetupError(
                f'{place}: {label!r} is neither one of the {len(classes)} '
                'WNIDs nor a label from 0'
            )
        name = PurePosixPath(relative_path(name.strip(), place)).name
        wnid = label if WNID.fullmatch(label) else classes[int(label)]
        if labels.setdefault(name, wnid) != wnid:
            raise SetupError(
                f'{place}: {name} is {wnid} here and {labels[name]} further up'
            )
    return labels


def find_images(folder: Path) -> 'list[str]':
    """Find the images below ``folder``.

    Returns:
        list[str]: Paths relative to it; sorted, a folder's files before those
        of the folders in it.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    return [
        PurePosixPath(place, name).as_posix()
        for place, names in walk(folder, '--root')
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]


def class_of(path: str) -> 'str | None':
    """WNID of the class folder that ``path`` begins with; None if flat."""
    first, _, rest = path.partition('/')
    return first if rest and WNID.fullmatch(first) else None


def main(argv: 'list[str] | None' = None) -> None:
    args = parse_args(argv)
    out = args.out or args.root / 'meta'
    files = {split: find_images(args.root / split) for split in OFFICIAL}
    in_folders = {wnid for path in files['train'] if (wnid := class_of(path))}
    if args.devkit:
        classes, labels = read_devkit(args.devkit)
    else:
        classes = sorted(in_folders)
        labels = read_labels_without_devkit(args, files['val'], classes, out)

    contents = {'classes.txt': ''.join(f'{name}\n' for name in classes)}
    index = {name: number for number, name in enumerate(classes)}
    reports = []
    for split, paths in files.items():
        report = Report(split, classes)
        faults = find_faults(
            [args.root / split / path for path in paths],
            split,
            args,
            decode_image,
        )
        lines = []
        for path, reason in zip(paths, faults):
            wnid, reason = label_of(path, split, labels, index, reason)
            if report.add(path, wnid, reason):
                lines.append(f'{path} {index[wnid]}\n')
        if split == 'val':
            present = {PurePosixPath(path).name for path in paths}
            for name in sorted(labels.keys() - present):
                report.add(name, labels[name], 'missing')
        contents[f'{split}.txt'] = ''.join(lines)
        reports.append(report)
    contents[UNUSABLE] = unusable_list(reports)
    print_reports(reports, args, OFFICIAL)
    print(f'{len(classes)} classes')
    if len(classes) != NUM_CLASSES:
        print(
            f'warning: ImageNet-1k has {NUM_CLASSES} classes; with '
            f'{len(classes)} the labels are not those of mmpretrain'
        )
    if not all(report.found for report in reports):
        raise SetupError(f'no usable image in train/ or val/ of {args.root}')
    refuse_foreign(out, contents)
    if write_all(out, contents, args):
        if out.resolve() == (args.root / 'meta').resolve():
            print_links({ROOT: args.root})
        else:
            splits = {ROOT / name: args.root / name for name in OFFICIAL}
            print_links({**splits, ROOT / 'meta': out})


def label_of(
    path: str,
    split: str,
    labels: 'dict[str, str]',
    index: 'dict[str, int]',
    reason: str,
) -> 'tuple[str | None, str]':
    """Find the class of an image.

    Args:
        path (str): Below the folder of the split.
        split (str): 'train' or 'val'.
        labels (dict[str, str]): WNIDs of validation images.
        index (dict[str, int]): Label of each WNID.
        reason (str): Why the file is unusable, or ''.

    Returns:
        tuple[str | None, str]: Its WNID, and why it is unusable, or ''.
    """
    folder = class_of(path)
    listed = labels.get(PurePosixPath(path).name) if split == 'val' else None
    wnid = folder or listed
    if not reason and wnid is None:
        reason = 'no label' if split == 'val' else 'in no class folder'
    elif not reason and wnid not in index:
        reason = 'in the folder of another class'
    elif not reason and folder and listed and folder != listed:
        reason = f'contradictory label: {listed} in the list'
    return wnid, reason or listing_fault(path, '\t')


def read_labels_without_devkit(
    args: argparse.Namespace,
    val: 'list[str]',
    classes: 'list[str]',
    out: Path,
) -> 'dict[str, str]':
    """Read the labels of validation images that no folder tells.

    Args:
        args (Namespace): The options.
        val (list[str]): Paths below val/.
        classes (list[str]): WNID of each label.
        out (Path): Folder of the annotation files.

    Returns:
        dict[str, str]: For each name its WNID; empty if folders tell all.

    Raises:
        MissingDataError: If there is no source of labels.
        SetupError: If the source is malformed, or of other classes.
    """
    if args.val_labels:
        return read_val_labels(args.val_labels, classes, '--val-labels')
    if all(map(class_of, val)):
        return {}
    before = out / 'val.txt'
    if not before.is_file():
        raise MissingDataError(
            f'{args.root / "val"} has no class folders, so its labels are '
            'needed: name the unpacked ILSVRC2012_devkit_t12 with --devkit, '
            'or a file with lines "NAME WNID" with --val-labels'
        )
    record = out / 'classes.txt'
    if record.is_file() and record.read_text().split() != classes:
        raise SetupError(
            f'{before} is for the classes of {record}, and the folders of '
            f'{args.root / "train"} are others: name the labels with --devkit'
        )
    # it lacks the images that were unusable then
    return {
        **unusable_labels(out / UNUSABLE),
        **read_val_labels(before, classes, str(before)),
    }


def unusable_labels(path: Path) -> 'dict[str, str]':
    """Return the WNIDs of validation images in our list of unusable ones."""
    if not path.is_file():
        return {}
    rows = (line.split('\t') for line in read_text(path).splitlines())
    return {
        PurePosixPath(name).name: wnid
        for split, name, wnid, _ in rows
        if split == 'val' and WNID.fullmatch(wnid)
    }


def refuse_foreign(out: Path, contents: 'dict[str, str]') -> None:
    """Keep lists that somebody else made, such as those of a subset.

    Raises:
        SetupError: If there is one with other lines than ours.
    """
    if (out / 'classes.txt').is_file():  # so they are of this script
        return
    for name in ('train.txt', 'val.txt'):
        path = out / name
        if path.is_file() and set(read_text(path).splitlines()) != set(
            contents[name].splitlines()
        ):
            raise SetupError(
                f'{path} was not written by this script and has other lines: '
                'move it away, or choose another --out; of val.txt, '
                '--val-labels takes the labels'
            )


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='folder of train/ and val/ (default: %(default)s)',
    )
    parser.add_argument(
        '--devkit', type=Path, help='the unpacked ILSVRC2012_devkit_t12'
    )
    parser.add_argument(
        '--val-labels', type=Path, help='lines "NAME WNID" or "NAME LABEL"'
    )
    parser.add_argument(
        '--out', type=Path, help='folder to write to (default: ROOT/meta)'
    )
    add_options(parser, decode=False, what='each image (hours)')
    args = parser.parse_args(argv)
    if args.devkit and args.val_labels:
        parser.error('--devkit or --val-labels, not both')
    return args
