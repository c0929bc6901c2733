r"""Write the annotation files of ImageNet-1k for mmpretrain.

From the unpacked archives: train/WNID/*.JPEG, and val/ with class folders or,
as in the official archive, flat. Nothing is moved: mmpretrain's ``ImageNet``
reads meta/train.txt and meta/val.txt of its data_root where they exist.

    python tools/data/imagenet.py --root data/imagenet \
        --devkit ILSVRC2012_devkit_t12

Labels are ranks of the sorted WNIDs, as in torchvision and mmpretrain. Those
of a flat val/ come from the development kit (--devkit), from a text file
with lines ``NAME WNID`` or ``NAME LABEL`` (--val-labels), or from the
meta/val.txt that is there already.

Written: train.txt and val.txt (path, blank, label), classes.txt (WNID of each
label), unusable.txt (split, path, class, reason).
"""

from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.files import add_options, add_path, make_parser
from cgnl_mm.datasets.prepare.imagenet import ROOT, prepare_imagenet


def main(argv=None):
    parser = make_parser(__doc__)
    add_path(parser, '--root', ROOT, 'folder of train/ and val/')
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
    if args.out:
        require_writable(args.out, '--out')
    prepare_imagenet(args)


if __name__ == '__main__':
    run(main)
