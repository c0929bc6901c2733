"""The attention blocks of a network, and what goes into them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmcv.cnn.bricks.non_local import _NonLocalNd
from torch import Tensor, nn

from ..blocks.cgnl import _CGNLNd
from ..errors import SetupError

# what DDP and FSDP add to the names of modules
WRAPPERS = re.compile(
    r'^(module|_fsdp_wrapped_module)\.|\._fsdp_wrapped_module'
)


def find_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Find the CGNL and the non-local blocks, in the order of the modules.

    Args:
        model (Module): Any network; DDP or FSDP may wrap it.

    Returns:
        dict[str, Module]: By name, 'backbone.layer3.cgnl_4'.
    """
    return {
        WRAPPERS.sub('', name): module
        for name, module in model.named_modules()
        if isinstance(module, (_CGNLNd, _NonLocalNd))
    }


def is_cgnl(block: nn.Module) -> bool:
    """Tell whether a block has the channel groups and factors of CGNL."""
    return isinstance(block, _CGNLNd)


def attending_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Find the CGNL blocks with attention: no residual controls."""
    return {
        name: block
        for name, block in find_blocks(model).items()
        if is_cgnl(block) and block.mode != 'none'
    }


def choose_blocks(
    model: nn.Module, name: str | None = None
) -> dict[str, nn.Module]:
    """Find the blocks to show, by name.

    Args:
        model (Module): Any network.
        name (str | None): A name, or the end of one, as ``layer3.cgnl_4``;
            None for all that attend.

    Raises:
        SetupError: The network has no such block, or none at all.
    """
    blocks = attending_blocks(model)
    found = {
        key: block
        for key, block in blocks.items()
        if name is None or f'.{key}'.endswith(f'.{name}')
    }
    if not found:
        raise SetupError(
            f'no CGNL block {name or "with attention"} in this network; it '
            f'has {", ".join(blocks) or "none (`plugins` inserts them)"}'
        )
    return found


@contextmanager
def block_inputs(blocks: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keep the input of each block while the network runs.

    The hooks are on the blocks, not in them, so the blocks compute on the
    path that they would take anyway.

    ::

        with block_inputs(find_blocks(model)) as inputs:
            model.test_step(batch)
        attention_map(block, inputs[name], position)

    A block that runs several times in one forward pass of the network gives
    its first input.

    Args:
        blocks (dict[str, Module]): Blocks by name.

    Yields:
        dict[str, Tensor]: Inputs by the names of the blocks.
    """
    names = {block: name for name, block in blocks.items()}
    inputs: dict[str, Tensor] = {}

    def keep(block, args):
        inputs.setdefault(names[block], args[0].detach())

    handles = [block.register_forward_pre_hook(keep) for block in names]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
