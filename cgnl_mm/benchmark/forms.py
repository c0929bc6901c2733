"""Define the forms: the ways to compute a block that are compared.

A form that computes the CGNL block holds its layers under the names of
``CGNL2d``, so that the forms can share weights and be compared.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from mmcv.cnn import ContextBlock, NonLocal2d, NonLocal3d
from torch import Tensor, nn

from ..blocks import CGNL1d, CGNL2d, CGNL3d
from ..ops import taylor_coefficients
from .cases import Case
from .settings import Settings

LOOP, CONVOLUTIONS, NON_LOCAL = 'per-group loop', 'convolutions', 'NL gaussian'
NL = (NON_LOCAL, 'embedded_gaussian'), ('NL dot', 'dot_product')
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CGNL = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}


@dataclass(frozen=True)
class Form:
    """Describe one column of the tables.

    Attributes:
        name (str): Header of the column.
        build (Callable): Function that makes the module for a case.
        backend (str, optional): Path of this project's block.
        recompute (bool): Whether that path recomputes, which differs in
            training alone.
        is_cgnl (bool): Whether the module computes the CGNL block.
        ranks (tuple[int, ...]): Numbers of spatial axes that it takes.
        affinity (float): Keys of the affinity that the module forms for each
            query, as a share of the positions.
    """

    name: str
    build: Callable[[Case], nn.Module] = field(compare=False)
    backend: str | None = None
    recompute: bool = False
    is_cgnl: bool = False
    ranks: tuple[int, ...] = (1, 2, 3)
    affinity: float = 0.0

    def serves(self, case: Case, dtype: str) -> bool:
        """Say whether the form can compute a case in a type."""
        if self.backend in ('gram', 'folded') and dtype != 'float32':
            # Several powers have no folded form in half precision.
            return self.backend == 'folded' and case.mode == 'dot_product'
        if self.backend == 'gram':
            return case.mode == 'dot_product'
        return case.rank in self.ranks


def choose_forms(case: Case, settings: Settings) -> list[Form]:
    """Return the forms that serve a case and that the settings name."""
    return [
        form
        for form in block_forms(settings.compile)
        if form.serves(case, settings.dtype)
        and (form.name == LOOP or re.search(settings.forms, form.name))
    ]


def block_forms(compiled: bool = False) -> list[Form]:
    """List all columns, on request with the versions of torch.compile."""
    ours = [
        our_form(backend, recompute)
        for backend in ('auto', 'reference', 'folded', 'gram')
        for recompute in (False, True)
    ]
    loop = Form(LOOP, PerGroupLoop, is_cgnl=True)
    return [
        *ours,
        loop,
        *(compiled_form(form) for form in (ours[0], loop) if compiled),
        *(non_local_form(*mode, sub) for mode in NL for sub in (False, True)),
        # mmcv has this block for images alone.
        Form('ContextBlock', build_context, ranks=(2,)),
        Form(CONVOLUTIONS, Convolutions),
    ]


def our_form(backend: str, recompute: bool) -> Form:
    name = f'cgnl {backend}' + ' recompute' * recompute
    build = partial(build_cgnl, backend=backend, recompute=recompute)
    return Form(name, build, backend, recompute, is_cgnl=True)


def build_cgnl(case: Case, backend: str, recompute: bool = False) -> nn.Module:
    """Build this project's block."""
    return CGNL[case.rank](
        case.channels,
        groups=case.groups,
        mode=case.mode,
        order=case.order,
        norm_weight=1.0,
        backend=backend,
        recompute=recompute,
    )


def compiled_form(form: Form) -> Form:
    def build(case):
        # The limit of recompilations counts for the code, not for the
        # module: beyond it a case would silently run uncompiled.
        torch.compiler.reset()
        return torch.compile(form.build(case), dynamic=False)

    return replace(form, name=f'{form.name} compiled', build=build)


def non_local_form(name: str, mode: str, sub_sample: bool) -> Form:
    def build(case):
        layer = NonLocal2d if case.rank == 2 else NonLocal3d
        return layer(
            case.channels,
            mode=mode,
            sub_sample=sub_sample,
            norm_cfg=dict(type=f'BN{case.rank}d'),
            zeros_init=False,
        )

    # Pooling halves the height and the width of the keys.
    share = 0.25 if sub_sample else 1.0
    name += ' sub' * sub_sample
    return Form(name, build, ranks=(2, 3), affinity=share)


def build_context(case: Case) -> nn.Module:
    """Build GCNet's block at its usual ratio."""
    return ContextBlock(case.channels, ratio=1 / 16)


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
        conv, inner = CONVS[case.rank], case.channels // 2
        self.theta = conv(case.channels, inner, 1, bias=False)
        self.phi = conv(case.channels, inner, 1, bias=False)
        self.g = conv(case.channels, inner, 1, bias=False)
        self.conv_out = conv(
            inner, case.channels, 1, groups=case.groups, bias=False
        )
        self.norm = nn.GroupNorm(case.groups, case.channels)
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


class Convolutions(PerGroupLoop):
    """Compute the four 1x1 convolutions alone."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        del self.norm

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.conv_out(self.theta(x)), self.phi(x), self.g(x)
