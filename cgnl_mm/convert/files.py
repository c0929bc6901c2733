"""Checkpoint files: read safely, converted, written whole, explained."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import require_file
from ..errors import SetupError, describe_error, printable
from ..files import whole_files
from ..hosts import HOME
from .checkpoint import convert_tensors, find_target, read_tensors, recognise
from .mmaction import advise_plugins
from .names import BACKBONE, Target
from .network import SUFFIXES, Network

DATASETS = {200: 'cub', 1000: 'imagenet', None: 'imagenet'}
# the safe loader's words for what it does not create
REFUSED = re.compile(r'(?:GLOBAL|Unsupported class) (\S+)')


def convert_file(
    source: str, out: Path, target: str, backbone_only: bool, force: bool
) -> None:
    """Convert a checkpoint file; print what it holds and how to use it.

    The file written starts a fine-tuning; no run can be resumed from it.

    Args:
        source (str): Path of the checkpoint.
        out (Path): Path of the file to write.
        target (str): As for :func:`convert_checkpoint`.
        backbone_only (bool): As for :func:`convert_checkpoint`.
        force (bool): Whether a file at ``out`` is replaced.

    Raises:
        SetupError: If ``source`` cannot be read or converted, or ``out`` is
            there.
    """
    if out.exists() and not force:
        raise SetupError(f'{out} is there already; --force overwrites a file')
    theirs = read_tensors(read_checkpoint(source))
    ours = convert_tensors(theirs, target, backbone_only)
    shown = printable(str(out))
    if target == 'mmaction':
        found, use = 'non_local of mmaction2', advise_plugins(theirs)
    else:
        network = recognise(theirs)
        found = f"{network}, by the names of the author's code"
        use = advise(network, find_target(target, backbone_only), shown)
    print(f'found:   {found}')
    with whole_files(out.parent) as folder:
        torch.save(dict(meta={}, state_dict=ours), folder / out.name)
    print(f'written: {shown}, {len(ours)} tensors\nuse:     {use}')


def read_checkpoint(path: str) -> Any:
    """Load a file with PyTorch's safe loader, on the CPU.

    Raises:
        SetupError: If the file is not there, is not a checkpoint, or holds
            objects that the safe loader refuses.
    """
    require_file(path, 'IN')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # other files fail it in every way
        text = 'is not a whole checkpoint of PyTorch'
        if refused := REFUSED.search(str(error)):
            text = (
                f'holds more than weights: the safe loader refuses '
                f'{refused[1]}. Where you trust the file, write its '
                "['state_dict'] alone to a new one, with the code it is from"
            )
        elif not isinstance(error, pickle.UnpicklingError):
            # torch's UnpicklingError advises the unsafe loader
            text += f': {describe_error(error)}'
        raise SetupError(printable(f'{path} {text}')) from error


def advise(network: Network, target: Target, out: str) -> str:
    """Say how to use what was written, with the config that fits."""
    suffix = SUFFIXES[network.block]
    if network.block == 'CGNL2d' and network.groups != 8:
        suffix += f'_g{network.groups}'
    data = DATASETS.get(network.num_classes, network.num_classes)
    name = target.config.format(depth=network.depth, block=suffix, data=data)
    config = Path('configs', f'{name}.py')
    if not (HOME / config).is_file():
        return (
            f'no {config} is there: take the config that is nearest, with '
            'the plugins, depth and num_classes of this network'
        )
    text = f'python tools/test.py {config} {out}'
    if target.table is BACKBONE:
        text = f'python tools/train.py {config} --cfg-options load_from={out}'
    if suffix == '_cgnl':
        text += (
            '\n         or the config with cgnlx in its name, if it was '
            'trained with the RBF kernel: the weights do not tell'
        )
    return text
