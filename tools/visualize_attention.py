"""Show what one position of an image or a video attends to.

    python tools/visualize_attention.py configs/r18_cgnl_digits.py \\
        CHECKPOINT digit.png --point 12,20
    python tools/visualize_attention.py configs/i3d_r18_cgnl_movingdigits.py \\
        CHECKPOINT clip.mp4 --point 30,24,3 --groups 0 5
    python tools/visualize_attention.py configs/r18_cgnl_digits.py \\
        CHECKPOINT --dataset 200

The file goes through the config's test pipeline; pictures show what the
network gets. ``--point`` counts pixels of the file, as it is, and is followed
through resizes and crops; of a video, T counts the frames that the network
gets. An image gives
``<block>.png``; a video also ``<block>_frames.png`` (a filmstrip), mp4 and
gif. Red is positive, blue negative, each group on its own scale. For the dot
product all positions of a group see one map, up to sign and size:
``cgnl_mm.visualization.attention_map`` says why.

``--dataset`` takes the first N samples of the config's test data instead
(without a number, all): sign and size of each group's attention,
``<block>_groups.png`` and, for every sample, ``<block>_groups.csv``.
"""

import argparse
import sys
from pathlib import Path

from cgnl_mm.cli import run

FPS = 4.0


def parse_args() -> argparse.Namespace:
    from cgnl_mm.cli import add_model_options

    parser = argparse.ArgumentParser(
        description='Show what the blocks of a network attend to'
    )
    add_model_options(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        'input', nargs='?', type=Path, help='an image or a video'
    )
    parser.add_argument(
        '--dataset',
        nargs='?',
        type=int,
        const=sys.maxsize,  # all
        metavar='N',
        help='statistics over N samples of the test data, or all of them',
    )
    parser.add_argument(
        '--point',
        type=read_point,
        metavar='X,Y[,T]',
        help='the position that looks: pixels of the file from its top left '
        'and, in a video, the frame of those that the network gets, all from '
        '0; default: the middle',
    )
    parser.add_argument('--block', metavar='NAME', help='default: every block')
    parser.add_argument(
        '--groups',
        nargs='+',
        type=int,
        metavar='K',
        help='channel groups to draw, from 0; default: all',
    )
    parser.add_argument(
        '--weighted',
        action='store_true',
        help='weigh the attention with g: what each position contributes to '
        'the output (CGNL blocks)',
    )
    parser.add_argument(
        '--fps', type=float, default=FPS, help='frames a second of mp4 and gif'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='default: work_dirs/<name of the config>/attention',
    )
    parser.add_argument(
        '--device', help="'cpu', 'cuda:1', ...; default: a GPU if there is one"
    )
    args = parser.parse_args()
    if (args.input is None) == (args.dataset is None):
        parser.error('give either an image or a video, or --dataset')
    if args.dataset is not None and args.dataset < 1:
        parser.error('--dataset takes a positive number')
    if args.fps <= 0:
        parser.error('--fps takes a positive number')
    return args


def read_point(text: str) -> tuple[int, ...]:
    """'x,y' or 'x,y,t' as numbers."""
    try:
        point = tuple(int(part) for part in text.split(','))
    except ValueError:
        point = ()
    if len(point) not in (2, 3):
        raise argparse.ArgumentTypeError(f'takes X,Y or X,Y,T, got {text!r}')
    return point


def choose_blocks(model, name: str | None) -> dict:
    """The blocks to show, by name.

    Args:
        model (Module): The network.
        name (str | None): A name, or the end of one, as ``layer3.cgnl_4``.

    Raises:
        SetupError: No such block, or no block at all.
    """
    from cgnl_mm.errors import SetupError
    from cgnl_mm.visualization import find_blocks

    blocks = find_blocks(model)
    if not blocks:
        raise SetupError(
            'this network has no CGNL or non-local block: its config inserts '
            'none (`plugins`)'
        )
    if name is None:
        return blocks
    found = {
        key: block
        for key, block in blocks.items()
        if key == name or key.endswith(f'.{name}')
    }
    if not found:
        raise SetupError(
            f'--block: no block {name!r} in this network; it has '
            f'{", ".join(blocks)}'
        )
    return found


def main() -> None:
    args = parse_args()
    from cgnl_mm.cli import load_config
    from cgnl_mm.deploy.model import build_model, move_to_device
    from cgnl_mm.errors import SetupError

    if args.input is not None and not args.input.is_file():
        raise SetupError(f'no file {str(args.input)!r} in {Path.cwd()}')
    cfg = load_config(args.config, args.cfg_options)
    if args.dataset is not None:
        from cgnl_mm.cli import require_data

        require_data(cfg, ('test',))
    model = move_to_device(build_model(cfg, args.checkpoint), args.device)
    blocks = choose_blocks(model, args.block)
    out = args.out or Path('work_dirs', Path(args.config).stem, 'attention')
    if args.dataset is None:
        from _visualize_maps import draw_maps

        draw_maps(model, cfg, blocks, args, out)
    else:
        from _visualize_groups import draw_groups

        draw_groups(model, cfg, blocks, args.dataset, out)


if __name__ == '__main__':
    run(main)
