"""The check of a block's settings."""

from math import inf

from torch import nn

from ..ops import KERNELS
from .paths import BACKENDS

MODES = (*KERNELS, 'learnable', 'none')


def check_settings(block: nn.Module) -> None:
    """Raise ValueError for settings that do not make a block.

    The order and gamma of a series are checked where it is made.

    Args:
        block (Module): A CGNL block that has its settings and no layers yet.
    """
    for name in ('in_channels', 'groups', 'reduction'):
        value = getattr(block, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be an integer >= 1, got {value!r}')
    for name, allowed in (
        ('mode', MODES),
        ('backend', BACKENDS),
        ('use_scale', (True, False)),
        ('recompute', (True, False)),
    ):
        value = getattr(block, name)
        if value not in allowed:
            raise ValueError(
                f'{name} must be one of {", ".join(map(str, allowed))}, got '
                f'{value!r}'
            )
    std = 0 if block.init_std is None else block.init_std
    for name, value in (('init_std', std), ('norm_weight', block.norm_weight)):
        is_number = isinstance(value, (int, float))
        if not is_number or isinstance(value, bool) or not 0 <= value < inf:
            raise ValueError(
                f'{name} must be a finite number >= 0, got {value!r}'
            )
    if block.in_channels % block.reduction:
        raise ValueError(
            f'reduction={block.reduction} does not divide '
            f'in_channels={block.in_channels}'
        )
    inner = block.in_channels // block.reduction
    if inner % block.groups:
        allowed = [str(d) for d in range(1, inner + 1) if inner % d == 0]
        raise ValueError(
            f'groups={block.groups} does not divide in_channels / reduction '
            f'= {inner}; allowed are {", ".join(allowed)}'
        )
    if block.use_scale and block.mode == 'none':
        raise ValueError(
            "use_scale=True has no effect with mode='none', which has no "
            'inner products; leave use_scale out'
        )
