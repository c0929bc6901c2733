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

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.convert.files import convert_file


def main(argv=None) -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('source', metavar='IN', help='checkpoint to read')
    add('out', metavar='OUT', type=Path, help='checkpoint to write')
    add('--to', choices=['mmpretrain', 'mmdet', 'mmaction'],
        default='mmpretrain', dest='target',
        help='whose names to write; default: %(default)s')
    add('--backbone-only', action='store_true',
        help='leave the classifier out')
    add('--force', action='store_true', help='overwrite OUT')
    # fmt: on
    args = parser.parse_args(argv)
    cli.require_writable(args.out, 'OUT', folder=False)
    convert_file(**vars(args))


if __name__ == '__main__':
    cli.run(main)
