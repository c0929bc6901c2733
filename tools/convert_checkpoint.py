"""Convert checkpoints of the author's code to this project's, and back.

    python tools/convert_checkpoint.py model_best.pth.tar r50_cgnl_cub.pth
    python tools/convert_checkpoint.py epoch_110.pth author.pth.tar --to author
    python tools/convert_checkpoint.py c4.pth d.pth --to mmdet --backbone-only

Reads classification networks of github.com/KaiyuYue/cgnl-network.pytorch (and
torchvision's, which have the same names) and R-50-C4 models of
maskrcnn-benchmark. Every key is accounted for, or the tool ends with a list.
"""

import argparse
import os
import pickle
import re
import tempfile
from pathlib import Path

from cgnl_mm.cli import run
from cgnl_mm.hosts import HOME as ROOT

BLOCK_SUFFIX = {None: '', 'CGNL2d': '_cgnl', 'NonLocal2d': '_nl'}
DATASETS = {200: 'cub', 1000: 'imagenet'}
# maskrcnn-benchmark's, in the order BGR
BENCHMARK_MEAN = '[102.9801,115.9465,122.7717]'


def read_checkpoint(path: str):
    """Load a file with PyTorch's safe loader, on the CPU.

    Raises:
        SetupError: It is not there, no checkpoint, or holds objects that the
            safe loader refuses.
    """
    import torch

    import cgnl_mm  # noqa: F401  lets the loader read numpy's numbers
    from cgnl_mm.cli import require_file
    from cgnl_mm.errors import SetupError
    from cgnl_mm.ops.versions import TORCH

    require_file(path, 'IN')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # other files fail it in every way
        if not isinstance(error, pickle.UnpicklingError):
            text = str(error) or type(error).__name__
            reason = f': {text.splitlines()[0]}'
        elif refused := re.search(
            r'(?:GLOBAL|Unsupported class) (\S+)', str(error)
        ):
            is_old = TORCH < (2, 6)
            raise SetupError(
                f'{path} holds more than weights: the safe loader refuses '
                f'{refused[1]}'
                + (' (torch >= 2.6 knows more)' if is_old else '')
                + '. Where you trust the file, write its '
                "['state_dict'] alone to a new one, with the code it is from"
            ) from error
        else:
            reason = ''  # torch's advises the unsafe loader
        raise SetupError(
            f'{path} is no whole checkpoint of PyTorch{reason}'
        ) from error


def write_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a file whole: an interrupted run leaves the old one."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as partial:
        torch.save(checkpoint, Path(partial, path.name))
        os.replace(Path(partial, path.name), path)


def wrap(state: dict, checkpoint: dict, target: str) -> dict:
    """Give a state dict what its code expects around it.

    Epoch and best accuracy survive the way here and back; the optimizer's
    state does not, so it is a start for fine-tuning, not to be resumed.

    Args:
        state (dict): What ``convert_checkpoint`` returned.
        checkpoint (dict): The file that was converted.
        target (str): As for ``convert_checkpoint``.

    Returns:
        dict: For ``torch.save``.
    """
    known = checkpoint
    if isinstance(checkpoint.get('meta'), dict):
        known = checkpoint['meta'].get('author', {})
    known = {k: known[k] for k in ('epoch', 'best_prec1') if k in known}
    if target != 'author':
        return dict(meta=dict(author=known), state_dict=state)
    # his networks are wrapped in DataParallel when they load
    state = {f'module.{key}': value for key, value in state.items()}
    return dict(dict(epoch=0, best_prec1=0.0), **known, state_dict=state)


def describe(source, network) -> str:
    """Say what was found."""
    block = 'no block'
    if network.block is not None:
        block = f'{network.block} after unit {network.unit} of layer3'
    if network.block == 'CGNL2d':
        block += f', {network.groups} groups'
    classes = ''
    if network.num_classes is not None:
        classes = f', {network.num_classes} classes'
    if network.block is None and 'author' in source:
        source += " or torchvision's"
    return f'R-{network.depth} in the names of {source}, {block}{classes}'


def advise(network, args: argparse.Namespace) -> str:
    """Say how to use what was written, with the config that fits."""
    if args.to == 'author':
        return advise_author(network)
    suffix = BLOCK_SUFFIX[network.block]
    if network.block == 'CGNL2d' and network.groups != 8:
        suffix += f'_g{network.groups}'
    config = config_path(network, args.to, suffix)
    if not (ROOT / config).is_file():
        return (
            f'no {config} is there: take the config that is nearest, with '
            'the plugins, depth and num_classes of this network'
        )
    if args.to == 'mmpretrain' and not args.backbone_only:
        text = f'python tools/test.py {config} {args.out}'
    else:
        options = [f'load_from={args.out}']
        if network.num_classes is None:
            options.append(f'model.data_preprocessor.mean={BENCHMARK_MEAN}')
        text = f'python tools/train.py {config} --cfg-options ' + ' '.join(
            options
        )
    rbf = config_path(network, args.to, '_cgnlx')
    if suffix == '_cgnl' and (ROOT / rbf).is_file():
        text += (
            f'\n         or {rbf}, if it was trained as CGNLx (RBF kernel): '
            'the weights do not tell'
        )
    return text


def advise_author(network) -> str:
    """Say how the author's code takes it, as far as it can."""
    data = DATASETS.get(network.num_classes)
    if data is None:
        return (
            f'not by his train_val.py as it is: no data set of '
            f'{network.num_classes} classes'
        )
    kind = {'CGNL2d': 'cgnl', 'NonLocal2d': 'nl'}.get(network.block)
    options = f"--nl-type '{kind}' --nl-nums 1 " if kind else ''
    text = (
        f"the author's train_val.py --dataset '{data}' --arch "
        f"'{network.depth}' {options}--valid, under the name "
        'model_best.pth.tar'
    )
    if network.block == 'CGNL2d':
        text += (
            "\n         with 'cgnlx' if it was trained with the RBF kernel; "
            'he has no other kernel'
        )
        if network.groups != 8:
            text += (
                '\n         and groups=8, which his model/resnet.py has in '
                f'_make_layer, edited to {network.groups}'
            )
    return text


def config_path(network, target: str, suffix: str) -> Path:
    """Our config of a network; it may not exist."""
    if network.num_classes is None:
        name = f'mask_rcnn_r{network.depth}_c4{suffix}_coco'
    elif target == 'mmdet':
        name = f'mask_rcnn_r{network.depth}_fpn{suffix}_coco'
    else:
        data = DATASETS.get(network.num_classes, network.num_classes)
        name = f'r{network.depth}{suffix}_{data}'
    return Path('configs', f'{name}.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Convert checkpoints of the author's code, or back"
    )
    parser.add_argument('source', metavar='IN', help='checkpoint to read')
    parser.add_argument(
        'out', metavar='OUT', type=Path, help='checkpoint to write'
    )
    parser.add_argument(
        '--to',
        choices=['mmpretrain', 'mmdet', 'author'],
        default='mmpretrain',
        help='whose names to write; default: mmpretrain',
    )
    parser.add_argument(
        '--backbone-only',
        action='store_true',
        help='leave the classifier, or the heads of a detector, out',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from cgnl_mm.convert import convert_checkpoint, inspect_checkpoint
    from cgnl_mm.errors import SetupError

    if args.out.exists() and not args.force:
        raise SetupError(f'{args.out} is there already; --force overwrites it')
    checkpoint = read_checkpoint(args.source)
    source, network = inspect_checkpoint(checkpoint)
    print(f'found:   {describe(source, network)}')
    state = convert_checkpoint(checkpoint, args.to, args.backbone_only)
    write_checkpoint(wrap(state, checkpoint, args.to), args.out)
    print(f'written: {args.out}, {len(state)} tensors')
    print(f'use:     {advise(network, args)}')


if __name__ == '__main__':
    run(main)
