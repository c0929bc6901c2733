"""Export a config's network to ONNX, torch.export or TorchScript.

    python tools/export.py configs/r18_cgnl_digits.py CHECKPOINT \\
        --format onnx --out r18_cgnl.onnx
    python tools/export.py configs/mask_rcnn_r50_fpn_cgnl_coco.py CHECKPOINT \\
        --part backbone --format torch_export --out backbone.pt2

The exported network takes a batch of any size of RGB values from 0 to 255,
float32: images (B, 3, H, W) or clips (B, 3, T, H, W), resized and cropped,
but not normalised: normalisation and channel order of the config are part of
the network (``--normalised`` leaves them out). It returns

- ``--part model`` (classifiers, recognisers): the scores after the softmax,
  (B, classes);
- ``--part backbone``: the feature maps of the config's ``out_indices``. For
  detectors, MMDeploy exports what lies behind.

The written file is read back, run at two batch sizes other than the traced
one and compared with the network; a larger difference than 1e-4, relative
where values are larger than 1, is an error.
"""

import argparse
from pathlib import Path

from cgnl_mm.cli import (
    add_model_options,
    add_shape_option,
    load_config,
    require_writable,
    run,
)
from cgnl_mm.deploy.export import SUFFIXES, export


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Export a network, and check what was written'
    )
    add_model_options(parser)
    parser.add_argument(
        'checkpoint', help="path or URL; 'none' for fresh weights"
    )
    parser.add_argument('--format', choices=SUFFIXES, default='onnx')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    parser.add_argument(
        '--part',
        choices=['model', 'backbone'],
        help="default: 'model', or for detectors 'backbone'",
    )
    add_shape_option(parser)
    parser.add_argument(
        '--normalised',
        action='store_true',
        help='leave normalisation and channel order to the caller',
    )
    parser.add_argument(
        '--opset', type=int, help="ONNX operator set; default: PyTorch's"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    require_writable(args.out, '--out', folder=False)
    cfg = load_config(args.config, args.cfg_options)
    settings = args.format, args.part, args.shape, args.normalised, args.opset
    export(cfg, args.checkpoint, args.out, *settings)


if __name__ == '__main__':
    run(main)
