"""Which modules fully sharded training (FSDP) gathers one at a time."""

import inspect
from typing import Sequence

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
        SetupError: This PyTorch has no FSDP without a GPU.
    """
    if not torch.cuda.is_available() and not has_cpu_streams():
        raise SetupError(
            f'FSDP without a GPU needs torch >= 2.3, this is '
            f'{torch.__version__}: train without --launcher, or with the '
            'config without _fsdp'
        )
    return recurse or type(module).__name__ in classes


def has_cpu_streams() -> bool:
    """Whether FSDP finds what it needs on a CPU."""
    return 'priority' in inspect.signature(torch.cpu.Stream).parameters
