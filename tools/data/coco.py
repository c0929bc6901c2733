r"""Check COCO 2017 as mmdet reads it; unpack its archives if asked.

    python tools/data/coco.py --root data/coco

checks annotations/instances_{train,val}2017.json (they parse, ids are unique
and known, the classes are mmdet's in mmdet's order) and that each image is in
train2017/ or val2017/. Nothing is written but with --out, which gets the list
of unusable images (split, path, class, reason), or with

    python tools/data/coco.py --root data/coco --unzip train2017.zip \
        val2017.zip annotations_trainval2017.zip

which unpacks what is not there yet.
"""

from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.coco import ROOT, prepare_coco
from cgnl_mm.datasets.prepare.files import (
    UNUSABLE,
    add_options,
    add_path,
    make_parser,
)


def main(argv=None):
    parser = make_parser(__doc__)
    text = 'folder of annotations/, train2017/ and val2017/'
    add_path(parser, '--root', ROOT, text)
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
    args = parser.parse_args(argv)
    if args.out:
        require_writable(args.out, '--out')
    prepare_coco(args)


if __name__ == '__main__':
    run(main)
