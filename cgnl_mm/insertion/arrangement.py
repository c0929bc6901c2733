"""Show a block the maps of its network with their axes in another order."""

import math
from dataclasses import dataclass
from typing import Optional, Set, Tuple, Union

import torch
from torch import Tensor, nn

from ..errors import ConfigError

AXES = (None, 'BNC', 'BSC')
# What kinds of layers call their number of output channels; those of the
# first kinds look at the last axis.
LAST = ('out_features', 'normalized_shape')
WIDTHS = (*LAST, 'out_channels', 'num_features', 'num_channels')


@dataclass(frozen=True)
class Arrangement:
    """The axes of what a module returns.

    Args:
        axes (str, optional): 'BNC', tokens, of which a class token is one,
            or 'BSC', channels last; None stands for channels behind the
            batch. Defaults to None.
        frames (int | True, optional): Frames of a clip that follow each
            other in the batch; a block then sees (B, C, T, H, W). True stands
            for as many as the network's ``num_segments``, or else as the
            recognizer tells at each call. Defaults to None.
        flat (bool): Whether the block sees all positions as one image,
            (B, C, T * H, W): for blocks of images, such as ContextBlock, in
            networks of clips. Defaults to False.

    Raises:
        ConfigError: (a ValueError) For other values.
    """

    axes: Optional[str] = None
    frames: Union[int, bool, None] = None
    flat: bool = False

    def __post_init__(self) -> None:
        fits = self.frames is None or self.frames is True
        fits = fits or (type(self.frames) is int and self.frames > 0)
        if self.axes not in AXES or not fits or type(self.flat) is not bool:
            raise ConfigError(
                f"axes={self.axes!r} must be 'BNC' or 'BSC', "
                f'frames={self.frames!r} True or a number of frames, and '
                f'flat={self.flat!r} True or False'
            )

    def shape_of(self, shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """Return the shape that a block sees, of one clip if there are."""
        if self.axes:
            shape = (shape[0], shape[-1], *shape[1:-1])
        if self.frames:
            shape = (1, shape[1], shape[0], *shape[2:])
        if self.flat:
            shape = (*shape[:2], math.prod(shape[2:-1]), shape[-1])
        return shape

    def apply(self, block: nn.Module) -> None:
        """Let a block take, and return, tensors in this arrangement."""
        if self != Arrangement():
            block.arrangement = self
            block.told_frames = block.last_frames = block.told_sizes = None
            block.register_forward_pre_hook(self.to_block)
            block.register_forward_hook(self.from_block)

    def to_block(self, block: nn.Module, args: tuple) -> tuple:
        """Bring the axes of the input into a block's order."""
        (x,) = args
        if self.axes:
            x = x.movedim(-1, 1)
        if self.frames:
            frames = self.frames_in(block, x)
            x = x.unflatten(0, (-1, frames)).movedim(1, 2)
        if self.flat:
            block.told_sizes = x.shape[2:]
            x = x.reshape(*x.shape[:2], math.prod(x.shape[2:-1]), x.shape[-1])
        return (x,)

    def frames_in(self, block: nn.Module, x: Tensor) -> int:
        """Return how many maps of a batch are one clip.

        Raises:
            ConfigError: (a ValueError) If nobody told, or the batch is not
                made of whole clips.
        """
        if x.is_meta:
            return len(x)  # a trial run, of one clip
        frames = block.told_frames if self.frames is True else self.frames
        if frames is None and torch._C._current_graph_task_id() != -1:
            frames = block.last_frames  # a checkpoint runs again, in backward
        if frames is None:
            raise ConfigError(
                f'{type(block).__name__} with frames=True runs in a '
                'Recognizer2D, which tells the frames of a clip; call the '
                'whole model, or give a number, such as frames=8'
            )
        if x.shape[0] % frames:
            raise ConfigError(
                f'{type(block).__name__} got {x.shape[0]} maps, which are '
                f'not whole clips of frames={frames}'
            )
        return frames

    def from_block(self, block: nn.Module, args: tuple, y: Tensor) -> Tensor:
        """Bring the axes of the output back."""
        if self.flat:
            y = y.reshape(*y.shape[:2], *block.told_sizes)
        if self.frames:
            y = y.movedim(2, 1).flatten(0, 1)
        return y.movedim(1, -1) if self.axes else y


def check_axes(
    unit: nn.Module, shape: Tuple[int, ...], axes: Optional[str]
) -> str:
    """Compare ``axes`` with what a module returns and with its layers.

    Args:
        unit (Module): The module.
        shape (tuple[int, ...]): Shape of what it returned.
        axes (str, optional): As in :class:`Arrangement`.

    Returns:
        str: What ``axes`` must be, '' if they may be right.
    """
    if len(shape) < 3:
        return ''
    last, every = _widths(unit, LAST), _widths(unit, WIDTHS)
    fitting = 'BNC' if len(shape) == 3 else 'BSC'
    if axes is None:
        known = shape[-1] in last and shape[1] not in every
        return f'axes={fitting!r}' if known else ''
    if shape[1] in every and shape[-1] not in every:
        return 'no axes'
    return '' if axes == fitting else f'axes={fitting!r}'


def _widths(unit: nn.Module, names: Tuple[str, ...]) -> Set[int]:
    leaves = [layer for layer in unit.modules() if not layer._modules]
    found = [getattr(leaf, name, None) for leaf in leaves for name in names]
    return {n[-1] if isinstance(n, tuple) else n for n in found}
