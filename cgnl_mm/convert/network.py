"""What a ResNet with one block consists of: the names and shapes.

Names are those of this project without prefix: torchvision's, and
``layer3.cgnl_4.theta.weight`` for the block.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple

from ..errors import SetupError
from .block import CGNL, NON_LOCAL

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# type of the block: its name in a stage, its modules in the author's code
# and here
BLOCKS = {
    'CGNL2d': ('cgnl', CGNL),
    'NonLocal2d': ('nonlocal_block', NON_LOCAL),
}
NORM = ('weight', 'bias', 'running_mean', 'running_var')
# absent from what PyTorch < 0.4.1 saved, and unused without momentum=None
OPTIONAL = 'num_batches_tracked'

Shape = Tuple[int, ...]


class ConversionError(SetupError, ValueError):
    """A checkpoint is not what it was taken for; the message names keys."""


@dataclass(frozen=True)
class Network:
    """A ResNet with bottlenecks and at most one block, in layer3.

    Attributes:
        depth (int): 50, 101 or 152.
        block (str | None): 'CGNL2d', 'NonLocal2d' or None.
        groups (int | None): Groups of the block's last convolution.
        num_classes (int | None): Rows of the classifier, None without one.
        width (int): Channels of the stem.
    """

    depth: int
    block: Optional[str] = None
    groups: Optional[int] = None
    num_classes: Optional[int] = None
    width: int = 64

    @property
    def unit(self) -> int:
        """The residual unit of layer3, 0-based, that a block follows."""
        return UNITS[self.depth][2] - 2

    @property
    def block_path(self) -> Optional[str]:
        """Name of the block ('layer3.cgnl_4')."""
        if self.block is None:
            return None
        return f'layer3.{BLOCKS[self.block][0]}_{self.unit}'

    def shapes(self) -> Dict[str, Shape]:
        """Name and shape of every tensor, :data:`OPTIONAL` ones included."""
        shapes = dict(_conv_norm('conv1', 'bn1', (self.width, 3, 7, 7)))
        inputs = self.width
        for stage, units in enumerate(UNITS[self.depth]):
            planes = self.width * 2**stage
            for unit in range(units):
                path = f'layer{stage + 1}.{unit}'
                shapes.update(_bottleneck(path, inputs, planes, unit == 0))
                inputs = 4 * planes
        if self.block is not None:
            shapes.update(self._block_shapes())
        if self.num_classes is not None:
            shapes['fc.weight'] = (self.num_classes, inputs)
            shapes['fc.bias'] = (self.num_classes,)
        return shapes

    def _block_shapes(self) -> Iterator[Tuple[str, Shape]]:
        channels = 16 * self.width
        inner = channels // 2
        names = BLOCKS[self.block][1]
        for name in 'tpg':
            path = f'{self.block_path}.{names[name]}'
            yield f'{path}.weight', (inner, channels, 1, 1)
            if self.block == 'NonLocal2d':
                yield f'{path}.bias', (inner,)
        path = f'{self.block_path}.{names["z"]}'
        yield f'{path}.weight', (channels, inner // self.groups, 1, 1)
        if self.block == 'NonLocal2d':
            yield from _norm(f'{self.block_path}.{names["bn"]}', channels)
        else:
            for parameter in ('weight', 'bias'):
                path = f'{self.block_path}.{names["gn"]}'
                yield f'{path}.{parameter}', (channels,)


def _norm(path: str, channels: int) -> Iterator[Tuple[str, Shape]]:
    for name in NORM:
        yield f'{path}.{name}', (channels,)
    yield f'{path}.{OPTIONAL}', ()


def _conv_norm(conv: str, norm: str, shape: Shape):
    yield f'{conv}.weight', shape
    yield from _norm(norm, shape[0])


def _bottleneck(path: str, inputs: int, planes: int, first: bool):
    kernels = ((planes, inputs, 1, 1), (planes, planes, 3, 3))
    for i, shape in enumerate((*kernels, (4 * planes, planes, 1, 1)), 1):
        yield from _conv_norm(f'{path}.conv{i}', f'{path}.bn{i}', shape)
    if first:
        yield from _conv_norm(
            f'{path}.downsample.0',
            f'{path}.downsample.1',
            (4 * planes, inputs, 1, 1),
        )
