"""Show what one position of an image or a video attends to.

    python tools/visualize_attention.py CONFIG CHECKPOINT clip.mp4 \\
        --point 30,24,3
    python tools/visualize_attention.py CONFIG CHECKPOINT --dataset 200

An image gives ``<block>.png``; a video also ``<block>.gif``, a picture for
each frame that the network gets. Red is positive, blue negative, each group
on its own scale. ``--html`` gives a page to click on instead. ``--dataset``
prints sign and size of each group's attention.
"""

import argparse
import sys
from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.deploy.model import build_model, move_to_device
from cgnl_mm.visualization.groups import print_groups
from cgnl_mm.visualization.maps import draw_maps, read_point
from cgnl_mm.visualization.page import write_page


def parse_args() -> argparse.Namespace:
    parser = cli.make_parser(__doc__)
    cli.add_model_options(parser)
    add = parser.add_argument
    # fmt: off
    add('checkpoint', help='path or URL of the checkpoint')
    add('input', nargs='?', type=Path, help='an image or a video')
    add('--dataset', type=int, metavar='N', nargs='?', const=sys.maxsize,
        help='print statistics over N samples of the test data, or over all')
    add('--point', metavar='X,Y[,T]',
        help='position that looks, from 0: a pixel and, in a video, a frame, '
        'of those that the network gets; default: the middle')
    add('--block', metavar='NAME', help='default: every block')
    add('--groups', type=int, nargs='+', metavar='K',
        help='channel groups to draw, from 0; default: all')
    add('--html', type=Path, metavar='FILE',
        help='write one page that shows every position, in place of pictures')
    add('--out', type=Path, metavar='DIR',
        help='default: work_dirs/<name of the config>/attention')
    add('--device', help="'cpu' or 'cuda:1'; default: a GPU if there is one")
    # fmt: on
    args = parser.parse_args()
    if (args.input is None) == (args.dataset is None):
        parser.error('give either an image or a video, or --dataset')
    if args.html and args.input is None:
        parser.error('--html takes an image or a video, not --dataset')
    return args


def main() -> None:
    args = parse_args()
    out = args.out or Path('work_dirs', Path(args.config).stem, 'attention')
    if args.html:
        cli.require_writable(args.html, '--html', folder=False)
    else:
        cli.require_writable(out, '--out')
    if args.input is not None:
        cli.require_file(str(args.input), 'input')
    point = read_point(args.point)
    cfg = cli.load_config(args.config, args.cfg_options)
    model = move_to_device(build_model(cfg, args.checkpoint), args.device)
    if args.input is None:
        cli.require_data(cfg, ('test',))
        print_groups(model, cfg, args.dataset, args.block)
    elif args.html:
        write_page(model, cfg, args.input, args.html, args.block, point)
    else:
        draw_maps(model, cfg, args.input, out, args.block, point, args.groups)


if __name__ == '__main__':
    cli.run(main)
