"""Say which modules fully sharded training (FSDP) gathers at a time."""

from typing import Sequence

from torch import nn


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
    """
    return recurse or type(module).__name__ in classes
