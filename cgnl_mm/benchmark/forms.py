"""What tools/benchmark.py times: inputs, and the forms of a block over them.

A *case* is one input with the settings of a block, a *form* one way to
compute a block. Forms that compute CGNL hold their layers under the names of
``CGNL2d``, so that they can share weights and be compared.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from mmcv.cnn import ContextBlock, NonLocal2d, NonLocal3d
from torch import Tensor, nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.blocks.folding import obstacle
from cgnl_mm.ops import taylor_coefficients
from cgnl_mm.ops.dispatch import BACKENDS, choose

LOOP, CONVOLUTIONS, NON_LOCAL = 'per-group loop', 'convolutions', 'NL gaussian'
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CGNL = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}


@dataclass(frozen=True)
class Case:
    """One input (batch, channels, *size) and the settings of the block."""

    name: str
    batch: int
    channels: int
    size: tuple[int, ...]
    groups: int = 8
    mode: str = 'dot_product'
    order: int = 1

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def positions(self) -> int:
        return math.prod(self.size)

    @property
    def inner(self) -> int:
        """Channels C' inside the block."""
        return self.channels // 2

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)


@dataclass(frozen=True)
class Form:
    """One column.

    Attributes:
        name (str): Its header.
        build (Callable): Makes the module for a case.
        is_ours (bool): Whether it is a path of this project.
        is_cgnl (bool): Whether it computes the CGNL block, so that it can be
            checked against the truth.
        is_for_training (bool): Whether it differs from another form in
            training alone.
        affinity (Callable, optional): Number of entries of the affinity that
            it forms for a case.
        only_dot (bool): Whether it serves the dot product alone.
    """

    name: str
    build: Callable[[Case], nn.Module]
    is_ours: bool = False
    is_cgnl: bool = False
    is_for_training: bool = False
    affinity: Callable[[Case], int] | None = None
    only_dot: bool = False

    def serves(self, case: Case) -> bool:
        if self.only_dot and case.mode != 'dot_product':
            return False
        return case.rank in getattr(self.build, 'ranks', CONVS)


# positions of the feature maps that a block follows, by network and stage;
# I3D halves the frames three times before res3
SHAPES = {
    'r50_res3_224': (512, (28, 28)),
    'r50_res4_224': (1024, (14, 14)),
    'r50_res3_448': (512, (56, 56)),
    'r50_res4_448': (1024, (28, 28)),
    'i3d_res3_8f': (512, (1, 28, 28)),
    'i3d_res4_8f': (1024, (1, 14, 14)),
    'i3d_res3_32f': (512, (4, 28, 28)),
    'i3d_res4_32f': (1024, (4, 14, 14)),
    'mask_rcnn_res3': (512, (100, 168)),
    'mask_rcnn_res4': (1024, (50, 84)),
}


def block_cases(device: str, quick: bool) -> list[Case]:
    """The shapes of the networks, with the batches that a device is for."""
    if quick:
        return [
            Case('r50_res4_224_b2', 2, 64, (7, 7)),
            Case('i3d_res4_32f_b1', 1, 64, (2, 5, 5)),
        ]
    cases = []
    for name, (channels, size) in SHAPES.items():
        if name.startswith('mask_rcnn'):
            batches = (1,) if device == 'cpu' else (1, 2)
        else:
            batches = (1, 4, 8) if device == 'cpu' else (1, 8, 32)
        cases += [
            Case(f'{name}_b{batch}', batch, channels, size)
            for batch in batches
        ]
    return cases


def scaling_cases(quick: bool) -> dict[str, list[tuple[float, Case]]]:
    """One quantity at a time, from 1x512x28x28 in 8 groups.

    Returns:
        dict[str, list]: (value, case) by the name of the quantity.
    """
    sides = (7, 14, 28, 56, 112, 224, 317)  # 49 to 100,489 positions
    channels = (64, 128, 256, 512, 1024, 2048)
    groups = (1, 2, 4, 8, 16, 32, 64)
    orders, batches = (1, 2, 3, 4, 5, 6), (1, 2, 4, 8, 16, 32)
    base, side = 512, 28
    if quick:
        sides, channels, groups = (7, 14), (32, 64), (1, 8)
        orders, batches, base, side = (1, 3), (1, 2), 64, 7

    def case(name, value, batch=1, channels=base, side=side, **options):
        text = f'{name}={value}'
        return value, Case(text, batch, channels, (side, side), **options)

    return {
        'positions': [case('positions', s * s, side=s) for s in sides],
        'channels': [case('channels', c, channels=c) for c in channels],
        'groups': [case('groups', g, groups=g) for g in groups],
        'order': [
            case('order', p, mode='embedded_gaussian', order=p) for p in orders
        ],
        'batch': [case('batch', b, batch=b) for b in batches],
    }


def block_forms(dtype: str = 'float32', compiled: bool = False) -> list[Form]:
    """All columns.

    Args:
        dtype (str): Half precision leaves the Gram matrix out.
            Defaults to 'float32'.
        compiled (bool): Whether to add torch.compile's versions.
            Defaults to False.
    """
    forms = []
    for backend in BACKENDS:
        if backend == 'gram' and dtype != 'float32':
            continue
        forms.append(_ours(backend))
        if backend != 'reference':
            forms.append(_ours(backend, recompute=True))
    forms.append(Form(LOOP, PerGroupLoop, is_cgnl=True))
    if compiled:
        forms += [
            Form(f'{form.name} compiled', _compile(form.build), form.is_ours,
                 form.is_cgnl)
            for form in forms
            if form.name in ('cgnl auto', LOOP)
        ]  # fmt: skip
    return [
        *forms,
        _non_local(NON_LOCAL, 'embedded_gaussian', False),
        _non_local('NL gaussian sub', 'embedded_gaussian', True),
        _non_local('NL dot', 'dot_product', False),
        _non_local('NL dot sub', 'dot_product', True),
        Form('ContextBlock', build_context),
        Form(CONVOLUTIONS, Convolutions),
        Form('matrix products', MatrixProducts),
    ]


def build_cgnl(case: Case, backend: str, recompute: bool = False) -> nn.Module:
    """This project's block."""
    return CGNL[case.rank](
        case.channels,
        groups=case.groups,
        mode=case.mode,
        order=case.order,
        zero_init=False,
        backend=backend,
        recompute=recompute,
    )


def resolved(
    form: Form, case: Case, device: str, dtype: torch.dtype
) -> list[Form]:
    """The forms that a form runs at the size of a case.

    Args:
        form (Form): Any. One of backend='auto' takes a path by its input, and
            may take another one for training.
        case (Case): At its full size.
        device (str): Of the input.
        dtype (dtype): Of the input.
    """
    block = form.build(case) if form.is_ours else None
    if getattr(block, 'backend', None) != 'auto':
        return [form]
    x = torch.empty(1, device=device, dtype=dtype).expand(case.shape)
    paths = set()
    for training in (True, False):
        with torch.set_grad_enabled(training):
            paths.add(choose(
                'auto', partial(obstacle, block, x), x,
                case.inner // case.groups, block.recompute,
            ))  # fmt: skip
    return [
        _ours(path, block.recompute and path != 'reference')
        for path in sorted(paths)
    ]


def _ours(backend: str, recompute: bool = False) -> Form:
    def build(case: Case) -> nn.Module:
        return build_cgnl(case, backend, recompute)

    name = f'cgnl {backend}' + ' recompute' * recompute
    return Form(
        name, build, is_ours=True, is_cgnl=True, is_for_training=recompute,
        only_dot=backend == 'gram',
    )  # fmt: skip


def _compile(build: Callable[[Case], nn.Module]):
    def compiled(case: Case) -> nn.Module:
        # its limit of recompilations is one of the code, not of the module:
        # beyond it a case would silently run uncompiled
        torch.compiler.reset()
        return torch.compile(build(case), dynamic=False)

    return compiled


def _non_local(name: str, mode: str, sub_sample: bool) -> Form:
    def build(case: Case) -> nn.Module:
        layer = NonLocal2d if case.rank == 2 else NonLocal3d
        return layer(
            case.channels,
            mode=mode,
            sub_sample=sub_sample,
            norm_cfg=dict(type=f'BN{case.rank}d'),
            zeros_init=False,
        )

    def affinity(case: Case) -> int:
        keys = case.positions
        if sub_sample:
            keys = math.prod(case.size[:-2]) * math.prod(
                extent // 2 for extent in case.size[-2:]
            )
        return case.batch * case.positions * keys

    build.ranks = (2, 3)
    return Form(name, build, affinity=affinity)


def build_context(case: Case) -> nn.Module:
    """GCNet's block at its usual ratio; mmcv has it for images alone."""
    return ContextBlock(case.channels, ratio=1 / 16)


build_context.ranks = (2,)


class PerGroupLoop(nn.Module):
    """The algorithm as published, one group after the other.

    Convolutions, split, two batched products a group, concatenation, W_z,
    norm, residual (FACTS of the paper and of the author's code: Eq. 12, 13).

    Args:
        case (Case): Settings.
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        conv, inner = CONVS[case.rank], case.inner
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
        size = maps[0].shape[1] // self.groups
        parts = zip(*(torch.split(a, size, dim=1) for a in maps))
        y = torch.cat([self.attend(*part) for part in parts], dim=1)
        return self.norm(self.conv_out(y)) + x

    def attend(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """One group (B, C' / G, *size)."""
        rows = [a.reshape(len(a), 1, -1) for a in (theta, phi, g)]
        queries, keys = rows[:2]
        if self.terms != [(1, 1.0)]:  # otherwise the dot product
            keys = torch.cat([keys**p for p, _ in self.terms], 1)
            queries = torch.cat([c * queries**p for p, c in self.terms], 1)
        moments = torch.bmm(rows[2], keys.mT)
        return torch.bmm(moments, queries).view(theta.shape)


class Convolutions(PerGroupLoop):
    """The four 1x1 convolutions alone."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        del self.norm

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.conv_out(self.theta(x)), self.phi(x), self.g(x)


class MatrixProducts(Convolutions):
    """The same as batched matrix products."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.flatten(2)
        theta, phi, g = (
            torch.bmm(layer.weight.flatten(1).expand(len(x), -1, -1), x)
            for layer in (self.theta, self.phi, self.g)
        )
        z = self.conv_out.weight.flatten(1)
        z = z.view(self.groups, -1, z.shape[1]).repeat(len(x), 1, 1)
        theta = theta.view(len(z), z.shape[2], -1)
        return torch.bmm(z, theta).view(x.shape), phi, g
