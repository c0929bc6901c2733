r"""Check CUB-200-2011 as mmpretrain reads it; convert lists of images.

The official tree (images/, images.txt, image_class_labels.txt,
train_test_split.txt, classes.txt) is used as it is:

    python tools/data/cub.py --root data/CUB_200_2011

Lists as the author's code reads them, lines ``PATH LABEL`` with paths below
images/ and labels from 0, are written to DIR/train.list and DIR/val.list:

    python tools/data/cub.py --write-author-lists DIR

and turned into an official tree, whose images/ is a link:

    python tools/data/cub.py --from-author-lists train.list val.list \
        --images IMAGES --out data/CUB_200_2011
"""

from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.cub import ROOT, prepare_cub
from cgnl_mm.datasets.prepare.files import UNUSABLE, add_options, make_parser


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument(
        '--root', type=Path, help=f'the official tree (default: {ROOT})'
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
    if args.out:
        require_writable(args.out, '--out')
    if args.write_author_lists:
        require_writable(args.write_author_lists, '--write-author-lists')
    prepare_cub(args)


if __name__ == '__main__':
    run(main)
