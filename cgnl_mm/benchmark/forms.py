"""Define settings, cases, and the forms: the ways to compute a block.

A form that computes the CGNL block holds its layers under the names of
``CGNL2d``, so that the forms can share weights and be compared.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmcv.cnn import NonLocal2d, NonLocal3d
from torch import Tensor, nn

from ..blocks import CGNL2d, CGNL3d
from ..blocks.paths import PATHS
from ..errors import SetupError
from ..ops import taylor_coefficients

LOOP, NON_LOCAL = 'per-group loop', 'NL gaussian'
AUTO, COMPILED = 'cgnl auto', 'cgnl auto compiled'


@dataclass
class Settings:
    """Hold the options of ``tools/benchmark.py``, which explains them.

    Raises:
        SetupError: If PyTorch cannot use the device.
    """

    what: Collection[str] = ('block',)
    device: str = 'cpu'
    dtype: str = 'float32'
    forms: Collection[str] = ()
    compile: bool = False
    quick: bool = False
    out: Path = Path('work_dirs/benchmark')

    def __post_init__(self) -> None:
        if self.device == 'cuda' and not torch.cuda.is_available():
            raise SetupError(
                '--device cuda: PyTorch sees no GPU; leave the option out to '
                'use the CPU'
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def autocast(self, device: str) -> torch.autocast:
        """Return the context of mixed precision; float32 needs none."""
        enabled = self.dtype != 'float32'
        return torch.autocast(device, self.torch_dtype, enabled=enabled)


class Case(NamedTuple):
    """Hold one input (batch, channels, *size) and a block's kernel."""

    name: str
    batch: int
    channels: int
    size: tuple[int, ...]
    mode: str = 'dot_product'
    order: int = 1
    groups: int = 8

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)


# A GPU's usual inputs: the maps that a block follows, by network and stage
# (I3D halves the number of frames three times before res3); the networks; the
# kernels of the author.
CASES = dict(
    block=[
        Case('r50_res4_224', 32, 1024, (14, 14)),
        Case('r50_res3_224', 32, 512, (28, 28)),
        Case('i3d_res4_32f', 8, 1024, (4, 14, 14)),
        Case('r50_res3_448', 8, 512, (56, 56)),
        Case('i3d_res3_32f', 8, 512, (4, 28, 28)),
        Case('mask_rcnn_res3', 2, 512, (100, 168)),
    ],
    networks=[
        Case('r50', 32, 3, (224, 224)),
        Case('i3d_r50', 8, 3, (32, 224, 224)),
    ],
    traffic=[
        Case('dot_product', 32, 1024, (14, 14)),
        Case('gaussian_rbf', 32, 1024, (14, 14), 'gaussian_rbf', 3),
    ],
)


def choose_cases(settings: Settings) -> list[tuple[str, Case]]:
    """Return the experiment and the case of each measurement."""
    found = []
    for what, cases in CASES.items():
        for case in cases:
            if settings.quick:
                most = 64 if what == 'networks' else 7
                size = tuple(min(n, most) for n in case.size)
                channels = min(case.channels, 64)
                case = case._replace(channels=channels, size=size)
            if settings.device == 'cpu' and what != 'traffic':
                case = case._replace(batch=1)
            if {'all', what, case.name}.intersection(settings.what):
                found.append((what, case))
    return found


def choose_forms(case: Case, settings: Settings) -> list[str]:
    """Return the forms that serve a case and that the settings name."""
    half, several = settings.dtype != 'float32', case.mode != 'dot_product'
    unserved = {
        COMPILED: not settings.compile,
        'cgnl gram': half or several,
        # Several powers have no folded form in half precision.
        'cgnl folded': half and several,
    }
    wanted = {LOOP, *settings.forms} if settings.forms else FORMS
    return [n for n in FORMS if n in wanted and not unserved.get(n)]


class PerGroupLoop(nn.Module):
    """Compute the block as published, one group after the other.

    The steps are the convolutions, the split, two batched products for each
    group, the concatenation, W_z, the norm and the residual (Eq. 12 and 13
    of the paper, and the author's code).

    Args:
        case (Case): Settings of the block.
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        for name, layer in build_cgnl(case).named_children():
            self.add_module(name, layer)
        self.groups = case.groups
        series = taylor_coefficients(case.mode, case.order)
        self.terms = [(p, c) for p, c in enumerate(series) if c]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.theta(x), self.phi(x), self.g(x)
        parts = zip(*(a.chunk(self.groups, dim=1) for a in maps))
        y = torch.cat([self.attend(*part) for part in parts], dim=1)
        return self.norm(self.conv_out(y)) + x

    def attend(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """Attend within one group (B, C' / G, *size)."""
        queries, keys, values = (
            a.flatten(1)[:, None] for a in (theta, phi, g)
        )
        if self.terms != [(1, 1.0)]:  # Any kernel but the dot product.
            keys = torch.cat([keys**p for p, _ in self.terms], 1)
            queries = torch.cat([c * queries**p for p, c in self.terms], 1)
        moments = torch.bmm(values, keys.mT)
        return torch.bmm(moments, queries).view(theta.shape)


def build_cgnl(case: Case, **settings) -> nn.Module:
    """Build this project's block."""
    kernel = dict(groups=case.groups, mode=case.mode, order=case.order)
    kind = CGNL2d if len(case.size) == 2 else CGNL3d
    return kind(case.channels, norm_weight=1.0, **kernel, **settings)


def build_non_local(case: Case) -> nn.Module:
    """Build mmcv's block, the kernel of which is the embedded Gaussian."""
    kind, norm = NonLocal3d, dict(type='BN3d')
    if len(case.size) == 2:
        kind, norm = NonLocal2d, dict(type='BN2d')
    return kind(case.channels, norm_cfg=norm, zeros_init=False)


# The columns of the tables, and what builds the module of each.
FORMS: dict[str, Callable[[Case], nn.Module]] = {
    LOOP: PerGroupLoop,
    AUTO: build_cgnl,
    COMPILED: build_cgnl,
    'cgnl auto recompute': partial(build_cgnl, recompute=True),
    **{f'cgnl {path}': partial(build_cgnl, backend=path) for path in PATHS},
    NON_LOCAL: build_non_local,
}


def compile_blocks(*blocks: nn.Module) -> None:
    """Compile blocks in place."""
    # The limit of recompilations counts for the code, not for the module:
    # beyond it a case would silently run uncompiled.
    torch.compiler.reset()
    for block in blocks:
        block.compile(dynamic=False)
