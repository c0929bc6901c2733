"""Export a config's network to ONNX or torch.export.

    python tools/export.py configs/r18_cgnl_digits.py CHECKPOINT \\
        --out r18_cgnl.onnx
    python tools/export.py configs/mask_rcnn_r50_fpn_cgnl_coco.py CHECKPOINT \\
        --out backbone.pt2

The exported network takes a batch of any size of RGB values from 0 to 255,
float32: images (B, 3, H, W) or clips (B, 3, T, H, W), resized and cropped,
but not normalised: normalisation and channel order of the config are part of
the network. It returns the scores after the softmax, (B, classes), of a
classifier or recogniser; of a detector, the feature maps of its backbone:
MMDeploy exports what lies behind.

The written file is read back, run at two batch sizes other than the traced
one and compared with the network; a larger difference than 1e-4, relative
where values are larger than 1, is an error.
"""

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.deploy.export import export


def main() -> None:
    parser = cli.make_parser(__doc__)
    cli.add_model_options(parser)
    add = parser.add_argument
    # fmt: off
    add('checkpoint', help="path or URL; 'none' for fresh weights")
    add('--out', type=Path, required=True, help='FILE.onnx or FILE.pt2')
    # fmt: on
    cli.add_shape_option(parser)
    args = parser.parse_args()
    cli.require_writable(args.out, '--out', folder=False)
    cfg = cli.load_config(args.config, args.cfg_options)
    export(cfg, args.checkpoint, args.out, args.shape)


if __name__ == '__main__':
    cli.run(main)
