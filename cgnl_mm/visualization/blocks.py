"""The attention blocks of a network, and what goes into them."""

from typing import Dict, Optional

from mmcv.cnn.bricks.non_local import _NonLocalNd
from torch import Tensor, nn

from ..blocks.cgnl import _CGNLNd
from ..errors import SetupError


def find_blocks(model: nn.Module) -> Dict[str, nn.Module]:
    """Find the CGNL and the non-local blocks, in the order of the modules.

    Args:
        model (Module): Any network.

    Returns:
        dict[str, Module]: By name, 'backbone.layer3.cgnl_4'.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (_CGNLNd, _NonLocalNd))
    }


def choose_blocks(
    model: nn.Module, name: Optional[str] = None
) -> Dict[str, nn.Module]:
    """Find the blocks to show, by name.

    Args:
        model (Module): Any network.
        name (str | None): A name, or the end of one, as ``layer3.cgnl_4``;
            None for all blocks.

    Raises:
        SetupError: The network has no such block, or none at all.
    """
    blocks = find_blocks(model)
    if not blocks:
        raise SetupError(
            'this network has no CGNL or non-local block: its config inserts '
            'none (`plugins`)'
        )
    found = {
        key: block
        for key, block in blocks.items()
        if name is None or f'.{key}'.endswith(f'.{name}')
    }
    if not found:
        raise SetupError(
            f'--block: no block {name!r} in this network; it has '
            f'{", ".join(blocks)}'
        )
    return found


class BlockInputs:
    """Keep the input of each block while the network runs.

    The hooks are on the blocks, not in them, so the blocks compute on the
    path that they would take anyway.

    ::

        with BlockInputs(find_blocks(model)) as inputs:
            model.test_step(batch)
        attention_map(block, inputs[name], position)

    A block that runs several times in one forward pass of the network gives
    its first input.

    Args:
        blocks (dict[str, Module]): Blocks by name.
    """

    def __init__(self, blocks: Dict[str, nn.Module]) -> None:
        self.blocks = blocks
        self.handles = []
        self.inputs: Dict[str, Tensor] = {}

    def __enter__(self) -> Dict[str, Tensor]:
        for name, block in self.blocks.items():
            self.handles.append(
                block.register_forward_pre_hook(
                    lambda _, args, name=name: self._keep(name, args)
                )
            )
        return self.inputs

    def _keep(self, name: str, args: tuple) -> None:
        if name not in self.inputs:
            self.inputs[name] = args[0].detach()

    def __exit__(self, *_) -> None:
        for handle in self.handles:
            handle.remove()
