"""The norm as an affine map for CUDA, in a few Triton launches.

Two forward and four backward; one and three where the statistics are given.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .folded_norm import FoldedNorm, is_apart
from .triton_launch import (
    ceil_div,
    launch,
    padded,
    precision_of,
    terms_at_once,
    warps,
)

try:
    from . import triton_norm_kernels as kernels
except ImportError:  # passes_triton.supported says so
    kernels = None

# Channels of a tile, and those whose statistics it sums at a time
BLOCK_C, BLOCK_E = 32, 64


def fold(
    factor: Optional[Tensor],
    mean: Tensor,
    cov: Tensor,
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm: FoldedNorm,
    groups: int,
) -> Tuple[Tensor, Tensor, Tensor, Tensor, List[Tensor]]:
    """The norm as an affine map; see :func:`passes.fold`."""
    z, cov, weight, bias = _contiguous(z, cov, weight, bias)
    a = _Launch(factor, mean, z, norm, groups)
    scaled, shift = a.empty(a.rows, a.c, a.k), a.empty(a.batch, a.channels)
    if norm.mean is None:
        moments = a.empty(2, a.total)
        stats = (1 if norm.over_batch else a.batch, norm.groups, 1)
        m, v = a.empty(*stats), a.empty(*stats)
        held = [moments, m, v]
        launch(
            kernels.moments_kernel, a.programs,
            z, mean, cov, moments, a.total, a.c, a.k, groups, a.tiles,
            **a.product, **a.tile,
        )  # fmt: skip
    else:
        moments, held = None, []
        m, v = _contiguous(norm.mean, norm.var)
    launch(
        kernels.fold_kernel, a.programs,
        z, factor, moments, weight, bias, m, v, scaled, shift,
        *a.sizes, **a.kind, **a.tile, BLOCK_E=BLOCK_E,
    )  # fmt: skip
    return scaled, shift, m, v, held


def fold_backward(
    d_scaled: Tensor,
    d_shift: Tensor,
    positions: int,
    held: List[Tensor],
    factor: Optional[Tensor],
    mean: Tensor,
    cov: Tensor,
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm: FoldedNorm,
    groups: int,
) -> Tuple[Optional[Tensor], ...]:
    """Gradients of :func:`fold`; see :func:`passes.fold_backward`."""
    z, cov, weight, bias = _contiguous(z, cov, weight, bias)
    d_scaled, d_shift = _contiguous(d_scaled, d_shift)
    a = _Launch(factor, mean, z, norm, groups)
    moments, m, v = held or (None, *_contiguous(norm.mean, norm.var))
    products = None
    if norm.mean is None:
        products = a.empty(a.total)
        launch(
            kernels.products_kernel, ceil_div(a.total, 16),
            z, d_scaled, products, a.total, a.channels, a.k,
            K=a.inner, LINES=16, num_warps=4,
        )  # fmt: skip
    scaled, d_samples = a.empty(a.rows, a.c, a.k), a.empty(a.total, a.k)
    parts = a.empty(4, a.total)
    launch(
        kernels.lines_backward_kernel, a.programs,
        z, factor, moments, weight, m, v, mean, cov, products,
        d_scaled, d_shift, scaled, d_samples, parts,
        *a.sizes, **a.kind, **a.product, **a.tile, BLOCK_E=BLOCK_E,
    )  # fmt: skip
    inside, shift = torch.empty_like(cov), torch.empty_like(mean)
    d_factor = None if factor is None else a.empty(a.batch, groups)
    tiles = ceil_div(a.k, 16)
    launch(
        kernels.rows_backward_kernel, a.rows * tiles,
        z, factor, mean, parts, inside, shift, d_factor,
        a.total, a.c, a.k, groups, positions, tiles,
        FACTOR=a.kind['FACTOR'], GIVEN=a.kind['GIVEN'],
        PRECISION=a.product['PRECISION'], K=a.inner, LINES=16,
        BLOCK_C=min(padded(a.c), terms_at_once(a.product['PRECISION'])),
        num_warps=4,
    )  # fmt: skip
    d_z, d_weight = torch.empty_like(z), torch.empty_like(weight)
    d_bias = torch.empty_like(bias)
    launch(
        kernels.join_samples_kernel, ceil_div(a.channels, 4),
        d_samples, parts, d_shift, d_z, d_weight, d_bias,
        a.total, a.channels, a.batch, a.k,
        K=a.inner, LINES=4, SAMPLES=8, num_warps=4,
    )  # fmt: skip
    return scaled, inside, shift, d_factor, d_z, d_weight, d_bias


def _contiguous(*tensors: Tensor) -> List[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


class _Launch:
    """Sizes and constants that the launches share."""

    def __init__(self, factor, mean, z, norm, groups) -> None:
        self.rows, self.k = mean.shape[:2]
        self.channels, self.batch = len(z), len(mean) // groups
        self.c, self.total = len(z) // groups, self.batch * len(z)
        self.inner, self.empty = padded(self.k), mean.new_empty
        block_c = min(padded(self.c), BLOCK_C)
        self.tiles = ceil_div(self.c, block_c)
        self.programs = self.rows * self.tiles
        self.sizes = (
            self.total, self.channels, self.batch, self.c, self.k, groups,
            self.channels // norm.groups, float(norm.eps), self.tiles,
        )  # fmt: skip
        place = 2 if is_apart(factor, norm, groups) else 1
        self.kind = dict(
            FACTOR=0 if factor is None else place,
            GIVEN=norm.mean is not None,
            OVER_BATCH=norm.over_batch,
        )
        precision = precision_of(z, mean, exact=True)
        self.product = dict(
            PRECISION=precision,
            BLOCK_K=min(self.inner, terms_at_once(precision)),
        )
        self.tile = dict(
            K=self.inner, BLOCK_C=block_c, num_warps=warps(self.inner)
        )
