"""Export a config's network to ONNX, torch.export or TorchScript.

    python tools/export.py configs/r18_cgnl_digits.py CHECKPOINT \\
        --format onnx --out r18_cgnl.onnx
    python tools/export.py configs/mask_rcnn_r50_fpn_cgnl_coco.py CHECKPOINT \\
        --part backbone --format torch_export --out backbone.pt2

What is exported takes a batch of any size of RGB values from 0 to 255,
float32: images (B, 3, H, W) or clips (B, 3, T, H, W), resized and cropped,
but not normalised: normalisation and channel order of the config are part of
the network (``--normalised`` leaves them out). It returns

- ``--part model`` (classifiers, recognisers): the scores after the softmax,
  (B, classes);
- ``--part backbone``: the feature maps of the config's ``out_indices``. Of
  detectors, this is what there is: MMDeploy exports what lies behind.

The written file is read back, run at two batch sizes other than the traced
one and compared with the network; a larger difference than 1e-4, relative
where values are larger than 1, is an error.
"""

import argparse
import os
import warnings
from pathlib import Path

from cgnl_mm.cli import run

TOLERANCE = 1e-4
SUFFIXES = dict(onnx='.onnx', torch_export='.pt2', torchscript='.pt')


def parse_args() -> argparse.Namespace:
    from cgnl_mm.cli import add_model_options, add_shape_option

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


def check_options(args: argparse.Namespace, host: str) -> None:
    """Complete ``part``; raise SetupError for what cannot be done."""
    import torch

    from cgnl_mm.errors import SetupError
    from cgnl_mm.ops.versions import TORCH

    if args.part is None:
        args.part = 'backbone' if host == 'mmdet' else 'model'
    if args.part == 'model' and host == 'mmdet':
        raise SetupError(
            '--part model: a whole detector is exported by MMDeploy; '
            '--part backbone is possible here'
        )
    if args.opset is not None and args.format != 'onnx':
        raise SetupError(f'--opset is of ONNX, not of {args.format}')
    suffix = SUFFIXES[args.format]
    if args.out.suffix != suffix:
        raise SetupError(
            f'--out {args.out}: a file of --format {args.format} ends in '
            f'{suffix}'
        )
    if args.format != 'torchscript' and TORCH < (2, 6):
        raise SetupError(
            f'--format {args.format} needs torch >= 2.6, this is '
            f'{torch.__version__}: update it, or use --format torchscript'
        )
    if args.format == 'onnx':
        require_onnx()


def require_onnx() -> None:
    """Raise SetupError unless all that ONNX needs is installed."""
    import importlib.util

    from cgnl_mm.errors import SetupError

    needed = ('onnx', 'onnxscript', 'onnxruntime')
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise SetupError(
            f'--format onnx needs {", ".join(missing)}: run `pip install '
            f'{" ".join(missing)}`'
        )


def main() -> None:
    args = parse_args()
    # PyTorch advises torch.export; who asks for TorchScript needs it
    warnings.filterwarnings('ignore', '`torch.jit', FutureWarning)
    import torch
    from _export import (
        EXPORTERS,
        TRACED,
        Exported,
        largest_difference,
        load,
    )

    from cgnl_mm.cli import load_config
    from cgnl_mm.deploy.model import build_model, input_shape, random_pixels
    from cgnl_mm.errors import SetupError

    cfg = load_config(args.config, args.cfg_options)
    check_options(args, cfg.default_scope)
    shape = input_shape(cfg, args.shape)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = build_model(cfg, checkpoint)
    network = Exported(
        model, cfg.default_scope, args.part, len(shape), args.normalised
    ).eval()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # a file that did not pass the check must not look like one that did
    draft = args.out.with_name(f'unchecked-{os.getpid()}-{args.out.name}')
    try:
        with torch.no_grad():
            EXPORTERS[args.format](
                network, random_pixels(shape, TRACED), draft, args.opset
            )
        difference = largest_difference(
            network, load(draft, args.format), shape
        )
        if not difference <= TOLERANCE:
            raise SetupError(
                f'the exported network differs from the original by '
                f'{difference:.2g} (allowed {TOLERANCE:g}); nothing was '
                'written'
            )
        draft.replace(args.out)
    finally:
        draft.unlink(missing_ok=True)
    size = ', '.join(map(str, ('batch', 3, *shape)))
    print(f'{args.out}: {args.part} of {args.config}, pixels ({size})')
    print(f'largest difference: {difference:.2g} (allowed {TOLERANCE:g})')
    if checkpoint is None:
        print('fresh weights: the blocks are still the identity')


if __name__ == '__main__':
    run(main)
