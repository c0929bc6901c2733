"""The network that a checkpoint holds, and the model of ours that fits."""

import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Dict, Mapping, Optional, Sequence

from torch import Size, Tensor

from ..errors import SetupError, printable
from ..hosts import HOME, require_host
from .author import BLOCKS
from .names import Table, Target

UNITS = {50: 6, 101: 23, 152: 36}  # residual units of layer3
# Name of a block in its stage, and in the name of a config.
PREFIXES: Dict[Optional[str], str] = {
    'CGNL2d': 'cgnl',
    'NonLocal2d': 'nonlocal_block',
}
SUFFIXES = {None: '', 'CGNL2d': '_cgnl', 'NonLocal2d': '_nl'}
LONGEST = 500  # characters of the keys in a message
SHOWN = 4  # keys of a list in a message


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

    def __str__(self) -> str:
        block = 'no block'
        if self.block is not None:
            block = (
                f'{self.block}(groups={self.groups}) after unit {self.unit}'
            )
        return f'R-{self.depth}, {block}, {self.num_classes or "no"} classes'

    @property
    def unit(self) -> int:
        """The residual unit of layer3, 0-based, that a block follows."""
        return UNITS[self.depth] - 2

    @property
    def author_path(self) -> str:
        """Name of a block in the author's code ('layer3.5')."""
        return f'layer3.{self.unit + 1}'

    @property
    def block_path(self) -> str:
        """Name of the block here ('layer3.cgnl_4')."""
        return f'layer3.{PREFIXES[self.block]}_{self.unit}'

    @property
    def table(self) -> Table:
        """The author's names of layer3, and those of a stage of ours."""
        if self.block is None:
            return ()
        theirs, ours = self.author_path, self.block_path
        modules = BLOCKS[self.block].items()
        return (
            *((f'{theirs}.{a}.', f'{ours}.{b}.') for a, b in modules),
            # The unit behind the block gets its own number back.
            (f'layer3.{self.unit + 2}.', f'{theirs}.'),
        )


def shorten(text: str) -> str:
    """Return a text in one line that is not too long for a message."""
    return printable(' '.join(text.split()))[:LONGEST]


def listed(keys: Sequence[str]) -> str:
    """Return the number of keys, and the first ones."""
    more = ', ...' if len(keys) > SHOWN else ''
    return shorten(f'{len(keys)} keys: {", ".join(keys[:SHOWN])}{more}')


def find_network(shapes: Mapping[str, Size]) -> Network:
    """Find depth, block, groups and classes; names may still be missing.

    Args:
        shapes (Mapping[str, Size]): Shapes by the author's names.

    Raises:
        ConversionError: If layer3 has the units of no known depth.
    """

    def size(name: str, axis: int = 0) -> int:
        return (*shapes.get(f'{name}.weight', ()), 0, 0)[axis]

    units = filter(re.compile(r'layer3\.\d+\.conv').match, shapes)
    count = len({name.split('.')[1] for name in units})
    if count not in UNITS.values():
        known = ', '.join(f'{units} (R-{d})' for d, units in UNITS.items())
        raise ConversionError(
            f'layer3 has {count} residual units; the known numbers are {known}'
        )
    network = Network(
        depth=next(depth for depth in UNITS if UNITS[depth] == count),
        num_classes=size('fc') or None,
        width=size('bn1') or 64,
    )
    modules = {name.rpartition('.')[0] for name in shapes}
    block, inner = network.author_path, 8 * network.width
    if f'{block}.bn' in modules:
        return replace(network, block='NonLocal2d', groups=1)
    if f'{block}.gn' not in modules:
        return network
    inputs = size(f'{block}.z', 1)
    # 8, the author's, where the shape is wrong and will be refused
    groups = inner // inputs if inputs and inner % inputs == 0 else 8
    return replace(network, block='CGNL2d', groups=groups)


def load_strictly(
    state: Dict[str, Tensor], network: Network, target: Target
) -> None:
    """Load a state dict into the model of the config that fits.

    Args:
        state (dict[str, Tensor]): Its names are those of the model.
        network (Network): Gives depth, block, groups, classes and width.
        target (Target): Gives the config. Only the parts of the model that
            its table names have to be in the state dict.

    Raises:
        ConversionError: If names are missing, unknown or of another shape.
        MissingHostError: If the target's host is not installed.
    """
    # One block is converted without MMEngine.
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    require_host(target.host)
    block = SUFFIXES[network.block]
    name = target.config.format(depth=50, block=block, data='cub')
    cfg = Config.fromfile(HOME / 'configs' / f'{name}.py').model
    # norm_eval changes no names, and mmdet warns of it.
    cfg.backbone.update(
        depth=network.depth,
        stem_channels=network.width,
        base_channels=network.width,
        norm_eval=False,
    )
    if network.block == 'CGNL2d':
        cfg.backbone.plugins[0].cfg.groups = network.groups
    if 'head' in cfg:
        cfg.head.in_channels = 32 * network.width
        cfg.head.num_classes = network.num_classes or 1000
    registry = import_module(f'{target.host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(target.host):
        model = registry.build(cfg)
    parts = tuple(new for _, new in target.table if new)
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
        missing = [name for name in missing if name.startswith(parts)]
        text = f'missing, {listed(missing)}; ' if missing else ''
        text += f'unknown, {listed(unknown)}' if unknown else ''
    except RuntimeError as error:  # other shapes
        text = str(error)
    if text:
        raise ConversionError(
            f'not a R-{network.depth} with {network.block or "no block"}, by '
            f'the names of {target.host}: {shorten(text)}'
        )
