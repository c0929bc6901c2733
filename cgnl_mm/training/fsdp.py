"""Say which modules fully sharded training (FSDP) gathers at a time."""

from typing import Optional, Sequence

import torch
from torch import nn

from ..errors import SetupError
from ..ops.torch_versions import TORCH


def wrap_classes(
    module: nn.Module,
    recurse: bool,
    nonwrapped_numel: int,
    classes: Sequence[str],
) -> bool:
    """Make modules of these classes the units of FSDP: a wrap policy.

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
    if obstacle:
        raise SetupError(
            f'FSDP without a GPU: {obstacle}. Train with the config without '
            '_fsdp'
        )
    return recurse or type(module).__name__ in classes


def obstacle_on_cpu() -> Optional[str]:
    """Say why FSDP does not run here without a GPU; None with one, too."""
    # 2.1 does not start; 2.6 and 2.11 crash where it saves
    if TORCH < (2, 14) and not torch.cuda.is_available():
        return f'torch >= 2.14 is needed, this is {torch.__version__}'
    return None
