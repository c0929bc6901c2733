"""Run a network on images or videos of your own; pictures come out.

    python tools/infer.py configs/r18_cgnl_digits.py CHECKPOINT digit.png \\
        --out work_dirs/infer
    python tools/infer.py configs/i3d_r18_cgnl_movingdigits.py CHECKPOINT \\
        data/movingdigits --out work_dirs/infer

Each file goes through the config's test pipeline, all clips and crops
included, and through the network as in a test. The picture shows what came
out: the image or some frames with the best classes, or boxes and masks. A
folder is searched with its subfolders, for images or videos as the network
needs. A file that cannot be read is reported, and the rest goes on.

``OUT/predictions.json`` holds all predictions, ``OUT/pictures`` the pictures.
"""

import argparse
from pathlib import Path

from cgnl_mm.cli import add_model_options, load_config, require_writable, run
from cgnl_mm.deploy.infer import infer
from cgnl_mm.deploy.model import build_model, move_to_device


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Predict for images or videos, with pictures'
    )
    add_model_options(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        'input', type=Path, help='an image, a video, or a folder of them'
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder'
    )
    parser.add_argument(
        '--device', help="'cpu', 'cuda:1', ...; default: a GPU if there is one"
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='lowest score of a detection that is drawn and listed',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    require_writable(args.out, '--out')
    cfg = load_config(args.config, args.cfg_options)
    model = move_to_device(build_model(cfg, args.checkpoint), args.device)
    infer(model, cfg, args.input, args.out, args.score_thr)


if __name__ == '__main__':
    run(main)
