"""Convert checkpoints of the author's code, and mmaction2's, to ours.

    python tools/convert_checkpoint.py model_best.pth.tar r50_cgnl_cub.pth
    python tools/convert_checkpoint.py r50.pth d.pth --to mmdet --backbone-only
    python tools/convert_checkpoint.py i3d_nl.pth i3d_nl5.pth --to mmaction

The tool reads classification networks of
github.com/KaiyuYue/cgnl-network.pytorch, torchvision's, which have the same
names, and mmaction2's with `non_local`, whose blocks become those of
`plugins`. Every key is accounted for, or the tool ends with a line that names
the keys.
"""

import argparse
from pathlib import Path

from cgnl_mm.cli import run
from cgnl_mm.convert.files import convert_file


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Convert checkpoints of the author's code, and mmaction2's"
    )
    parser.add_argument('source', metavar='IN', help='checkpoint to read')
    parser.add_argument(
        'out', metavar='OUT', type=Path, help='checkpoint to write'
    )
    parser.add_argument(
        '--to',
        choices=['mmpretrain', 'mmdet', 'mmaction'],
        default='mmpretrain',
        help='whose names to write; default: mmpretrain',
    )
    parser.add_argument(
        '--backbone-only',
        action='store_true',
        help='leave the classifier out',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    args = parser.parse_args()
    convert_file(
        args.source, args.out, args.to, args.backbone_only, args.force
    )


if __name__ == '__main__':
    run(main)
