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
from cgnl_mm.cli import run
from cgnl_mm.deploy.model import build_model, move_to_device
from cgnl_mm.visualization.groups import print_groups
from cgnl_mm.visualization.maps import draw_maps, read_point
from cgnl_mm.visualization.page import write_page


def parse_args() -> argparse.Namespace:
    about = 'Show what the blocks of a network attend to'
    parser = argparse.ArgumentParser(description=about)
    cli.add_model_options(parser)
    add = parser.add_argument
    add('checkpoint', help='path or URL of the checkpoint')
    add('input', nargs='?', type=Path, help='an image or a video')
    about = 'print statistics over N samples of the test data, or all of them'
    every = dict(nargs='?', const=sys.maxsize)
    add('--dataset', type=int, metavar='N', help=about, **every)
    about = 'position that looks, from 0: a pixel and, in a video, a frame, '
    about += 'of those that the network gets; default: the middle'
    add('--point', metavar='X,Y[,T]', help=about)
    add('--block', metavar='NAME', help='default: every block')
    about = 'channel groups to draw, from 0; default: all'
    add('--groups', type=int, nargs='+', metavar='K', help=about)
    about = 'write one page that shows every position, in place of pictures'
    add('--html', type=Path, metavar='FILE', help=about)
    about = 'default: work_dirs/<name of the config>/attention'
    add('--out', type=Path, metavar='DIR', help=about)
    add('--device', help="'cpu' or 'cuda:1'; default: a GPU if there is one")
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
    run(main)
