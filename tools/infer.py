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

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.deploy.infer import infer
from cgnl_mm.deploy.model import build_model, move_to_device


def main() -> None:
    parser = cli.make_parser(__doc__)
    cli.add_model_options(parser)
    add = parser.add_argument
    # fmt: off
    add('checkpoint', help='path or URL of the checkpoint')
    add('input', type=Path, help='an image, a video, or a folder of them')
    add('--out', type=Path, required=True, metavar='DIR', help='folder')
    add('--device',
        help="'cpu', 'cuda:1', ...; default: a GPU if there is one")
    add('--score-thr', type=float, default=0.3,
        help='lowest score of a detection that is drawn and listed')
    # fmt: on
    args = parser.parse_args()
    cli.require_writable(args.out, '--out')
    cfg = cli.load_config(args.config, args.cfg_options)
    model = move_to_device(build_model(cfg, args.checkpoint), args.device)
    infer(model, cfg, args.input, args.out, args.score_thr)


if __name__ == '__main__':
    cli.run(main)
