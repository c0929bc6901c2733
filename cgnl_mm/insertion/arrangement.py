"""Show a block the maps of its network with their axes in another order."""

from dataclasses import dataclass
from typing import Optional, Tuple

from torch import Tensor, nn

from ..errors import ConfigError

AXES = (None, 'BNC', 'BSC')


@dataclass(frozen=True)
class Arrangement:
    """The axes of what a module returns.

    Args:
        axes (str, optional): 'BNC', tokens, of which a class token is one,
            or 'BSC', channels last; None stands for channels behind the
            batch. Defaults to None.
        frames (int, optional): Frames of a clip that follow each other in
            the batch; a block then sees (B, C, T, H, W). Defaults to None.

    Raises:
        ConfigError: (a ValueError) For other values.
    """

    axes: Optional[str] = None
    frames: Optional[int] = None

    def __post_init__(self) -> None:
        whole = self.frames is None or type(self.frames) is int
        if self.axes not in AXES or not whole or self.frames == 0:
            raise ConfigError(
                f"axes={self.axes!r} must be 'BNC' or 'BSC', and "
                f'frames={self.frames!r} a number of frames'
            )

    def shape_of(self, shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """Return the shape that a block sees, of one clip if there are."""
        if self.axes:
            shape = (shape[0], shape[-1], *shape[1:-1])
        if self.frames:
            shape = (1, shape[1], self.frames, *shape[2:])
        return shape

    def apply(self, block: nn.Module) -> None:
        """Let a block take, and return, tensors in this arrangement."""
        if self != Arrangement():
            block.register_forward_pre_hook(self.to_block)
            block.register_forward_hook(self.from_block)

    def to_block(self, block: nn.Module, args: tuple) -> tuple:
        """Bring the axes of the input into a block's order."""
        (x,) = args
        if self.axes:
            x = x.movedim(-1, 1)
        if self.frames:
            if x.shape[0] % self.frames:
                raise ValueError(
                    f'{type(block).__name__} got {x.shape[0]} maps, which are '
                    f'not whole clips of frames={self.frames}'
                )
            x = x.unflatten(0, (-1, self.frames)).movedim(1, 2)
        return (x,)

    def from_block(self, block: nn.Module, args: tuple, y: Tensor) -> Tensor:
        """Bring the axes of the output back."""
        if self.frames:
            y = y.movedim(2, 1).flatten(0, 1)
        return y.movedim(1, -1) if self.axes else y
