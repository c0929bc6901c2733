"""Write the annotation files of ImageNet-1k for mmpretrain."""

import re
from argparse import Namespace
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError
from . import files, lists
from .apart import call_apart

CLASSES = 1000
OFFICIAL = dict(train=1_281_167, val=50_000)
WNID = re.compile('n[0-9]{8}')
VAL_LABEL = re.compile('n[0-9]{8}|[0-9]{1,9}')
# mmpretrain takes files with these suffixes for images.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
# The configs read this folder.
ROOT = Path('data/imagenet')
TRUTH = 'ILSVRC2012_validation_ground_truth.txt'
# WNID of each image, by its name without folders.
Labels = dict[str, str]


def prepare_imagenet(args: Namespace) -> None:
    """Write the annotation files, and print what they hold.

    Args:
        args (Namespace): The options of tools/data/imagenet.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If the labels have a fault, no image is usable, or the
            lists cannot be written.
    """
    root, out = args.root, args.out or args.root / 'meta'
    paths = {
        split: files.find_files(root / split, SUFFIXES, '--root')
        for split in OFFICIAL
    }
    if args.devkit:
        classes, labels = read_devkit(args.devkit)
    else:
        classes = sorted({class_of(path) for path in paths['train']} - {None})
        labels = {}
        if args.val_labels:
            labels = read_val_labels(args.val_labels, classes, '--val-labels')
        elif not all(map(class_of, paths['val'])):
            labels = read_earlier_labels(root, out, classes)
    reports = [
        look_at('train', paths['train'], classes, {}, args),
        look_at('val', paths['val'], classes, labels, args),
    ]
    files.print_reports(reports, OFFICIAL.values(), args.per_class)
    why = f'; with {len(classes)} the labels are not those of mmpretrain'
    files.print_classes('ImageNet-1k', CLASSES, classes, why=why)
    contents = files.make_lists(reports, root)
    refuse_foreign(out, contents)
    if lists.write_lists(out, contents, args.dry_run):
        links = {ROOT / split: root / split for split in OFFICIAL}
        is_inside = out.resolve() == (root / 'meta').resolve()
        lists.print_links(
            {ROOT: root} if is_inside else {**links, ROOT / 'meta': out}
        )


def look_at(
    split: str,
    paths: list[str],
    classes: list[str],
    labels: Labels,
    args: Namespace,
) -> files.Report:
    """Look at the images of a split.

    Args:
        split (str): 'train' or 'val'.
        paths (list[str]): Paths below the folder of the split.
        classes (list[str]): WNID of each label.
        labels (Labels): WNIDs of images, whatever their folder.
        args (Namespace): The options.

    Returns:
        Report: What the split holds.
    """
    rows, known, missing = [], {*classes}, {**labels}
    unlabelled = 'no label' if split == 'val' else 'in no class folder'
    places = [args.root / split / path for path in paths]
    faults = files.find_faults(places, split, args, files.decode_image)
    for path, reason in zip(paths, faults):
        listed = missing.pop(PurePosixPath(path).name, None)
        wnid = class_of(path) or listed
        if wnid is None:
            reason = reason or unlabelled
        elif wnid not in known:
            reason = reason or 'in the folder of another class'
        elif listed not in (None, wnid):
            reason = reason or f'contradictory label: {listed} in the list'
        reason = reason or lists.listing_fault(path)
        rows.append((path, wnid, reason, path))
    rows += [(x, wnid, 'missing', x) for x, wnid in sorted(missing.items())]
    return files.Report(split, classes, rows)


def class_of(path: str) -> 'str | None':
    """Return the WNID of the class folder of a path; None if flat."""
    first, _, rest = path.partition('/')
    return first if rest and WNID.fullmatch(first) else None


def read_devkit(folder: Path) -> tuple[list[str], Labels]:
    """Read the development kit, ILSVRC2012_devkit_t12.

    Args:
        folder (Path): Folder of data/meta.mat and the ground truth, or that
            data folder itself.

    Returns:
        tuple[list[str], Labels]: The sorted WNIDs, and the labels of the
        validation images.

    Raises:
        MissingDataError: If a file does not exist.
        SetupError: If one is malformed.
    """
    data = folder / 'data' if (folder / 'data').is_dir() else folder
    meta = data / 'meta.mat'
    if not meta.is_file():
        raise MissingDataError(
            f'{meta} does not exist: --devkit takes the unpacked '
            'ILSVRC2012_devkit_t12'
        )
    # SciPy's reader, which is written in C, crashes on some damaged files or
    # never ends. A whole kit takes half a second.
    wnids = call_apart(read_synsets, meta, {}, 'fork', seconds=5)
    if not wnids or not all(map(WNID.fullmatch, wnids.values())):
        raise SetupError(
            f'{meta} is damaged: unpack ILSVRC2012_devkit_t12 again'
        )
    labels = {}
    rows = list(lists.read_lines(data / TRUTH, '--devkit', strict=True))
    for number, (place, line) in enumerate(rows, 1):
        if line not in wnids:
            raise SetupError(f'{place}: {line!r} is not a class of meta.mat')
        labels[f'ILSVRC2012_val_{number:08d}.JPEG'] = wnids[line]
    return sorted(wnids.values()), labels


def read_synsets(meta: Path) -> dict[str, str]:
    """Read the WNID of each class number from the kit's meta.mat.

    Raises:
        SetupError: If SciPy refuses the file.
    """
    from scipy.io import loadmat  # a host's dependency

    try:
        return {
            str(int(row['ILSVRC2012_ID'])): str(row['WNID'])
            for row in loadmat(meta, squeeze_me=True)['synsets']
            if not row['num_children']  # the others are above the classes
        }
    except Exception as error:  # SciPy raises what it likes
        raise SetupError(
            f'{meta} cannot be read as that of ILSVRC2012: '
            f'{type(error).__name__}: {error}'
        ) from None


def read_val_labels(path: Path, classes: list[str], origin: str) -> Labels:
    """Read lines ``NAME WNID`` or ``NAME LABEL``.

    Args:
        path (Path): The file.
        classes (list[str]): WNID of each label.
        origin (str): Option that names the file.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or it
            contradicts another one; it is named.
    """
    known = {str(label): wnid for label, wnid in enumerate(classes)}
    known.update((wnid, wnid) for wnid in classes)
    labels = {}
    for place, name, label in lists.read_labels(path, origin, VAL_LABEL):
        if label not in known:
            raise SetupError(
                f'{place}: {label!r} is neither one of the {len(classes)} '
                'WNIDs nor a label from 0'
            )
        name = PurePosixPath(name).name
        lists.add_once(labels, name, known[label], place)
    return labels


def read_earlier_labels(root: Path, out: Path, classes: list[str]) -> Labels:
    """Read the labels of validation images that an earlier run has written.

    Args:
        root (Path): Folder of train/ and val/.
        out (Path): Folder of the lists.
        classes (list[str]): WNID of each label.

    Raises:
        MissingDataError: If there is no list.
        SetupError: If the list is malformed, or of other classes.
    """
    before, record = out / 'val.txt', out / 'classes.txt'
    if not before.is_file():
        raise MissingDataError(
            f'{root / "val"} has no class folders, so its labels are '
            'needed: name the unpacked ILSVRC2012_devkit_t12 with --devkit, '
            'or a file with lines "NAME WNID" with --val-labels'
        )
    if record.is_file() and lists.read_text(record).split() != classes:
        raise SetupError(
            f'{before} is for the classes of {record}, and the folders of '
            f'{root / "train"} are others: name the labels with --devkit'
        )
    labels = read_val_labels(before, classes, str(before))
    if (out / files.UNUSABLE).is_file():
        for line in lists.read_text(out / files.UNUSABLE).splitlines():
            split, name, wnid, _ = line.split('\t')
            if split == 'val' and wnid in classes:
                labels.setdefault(PurePosixPath(name).name, wnid)
    return labels


def refuse_foreign(out: Path, contents: dict[str, str]) -> None:
    """Keep lists that somebody else made, such as those of a subset.

    Raises:
        SetupError: If there is one with other lines than ours.
    """
    if (out / 'classes.txt').is_file():  # which this script writes
        return
    for name in ('train.txt', 'val.txt'):
        path, ours = out / name, set(contents[name].splitlines())
        if path.is_file() and set(lists.read_text(path).splitlines()) != ours:
            raise SetupError(
                f'{path} was not written by this script and has other lines: '
                'move it away, or choose another --out; of val.txt, '
                '--val-labels takes the labels'
            )
