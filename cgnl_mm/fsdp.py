"""Which modules fully sharded training (FSDP) gathers one at a time."""

import inspect
from typing import Optional, Sequence

import torch
from torch import nn

from .errors import SetupError


def wrap_classes(
    module: nn.Module,
    recurse: bool,
    nonwrapped_numel: int,
    classes: Sequence[str],
) -> bool:
    """Auto-wrap policy of FSDP: modules of these classes are its units.

    PyTorch's own policies take classes, which a text config cannot hold.

    Args:
        module (nn.Module): A module of the network.
        recurse (bool): Whether FSDP asks to go on to the children, or
            whether to wrap the module.
        nonwrapped_numel (int): Parameters not in a unit yet; not looked at.
        classes (Sequence[str]): Names of classes, such as 'BasicBlock3d'
            and 'CGNL3d'.

    Returns:
        bool: The answer.

    Raises:
        SetupError: Without a GPU, where this PyTorch cannot do it.
    """
    obstacle = obstacle_on_cpu()
    if obstacle and not torch.cuda.is_available():
        raise SetupError(
            f'FSDP without a GPU: {obstacle}. Train without --launcher, or '
            'with the config without _fsdp'
        )
    return recurse or type(module).__name__ in classes


def obstacle_on_cpu() -> Optional[str]:
    """Say why this PyTorch has no FSDP without a GPU; None if it has."""
    if 'priority' not in inspect.signature(torch.cpu.Stream).parameters:
        return f'torch >= 2.3 is needed, this is {torch.__version__}'
    if (2, 11) <= torch.__version__ < (2, 12):
        return f'torch {torch.__version__} crashes where it saves'
    return None
