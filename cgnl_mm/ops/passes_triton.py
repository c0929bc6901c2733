"""The passes of ``passes.py`` for CUDA: a few Triton kernels each.

Import it anywhere; :func:`supported` says whether it serves. Every sum runs
in float32 and in a fixed order (no atomics), so results repeat bit by bit.
Block sizes follow from the shape alone: nothing is tuned at run time, and
CUDA graphs capture the launches after one warm-up.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .folded_norm_triton import fold, fold_backward
from .passes import project, wide
from .triton_launch import (
    MAX_INNER_CHANNELS,
    alignment,
    ceil_div,
    launch,
    padded,
    precision_of,
    terms_at_once,
    warps,
)

try:
    import triton

    from . import triton_kernels as kernels
except ImportError as error:
    triton, IMPORT_ERROR = None, error

__all__ = [
    'MAX_INNER_CHANNELS',
    'apply',
    'apply_backward',
    'fold',
    'fold_backward',
    'inner_products',
    'input_gradient',
    'project',
    'statistics',
    'supported',
    'wide',
]

# Positions are split until about this many programs run; an H100 has 132
# multiprocessors.
PROGRAMS = 256
MIN_CHUNK = 256


def supported(x: Tensor, k: int) -> Optional[str]:
    """Why these passes do not serve, None if they do.

    Args:
        x (Tensor): Input of the block.
        k (int): Inner channels of a group, C' / G.

    Returns:
        str | None: The reason, to follow "because".
    """
    if triton is None:
        return f'Triton cannot be imported ({IMPORT_ERROR})'
    if int(triton.__version__.split('.')[0]) < 3:
        return f'Triton is {triton.__version__}, 3.0 or later is needed'
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f'the input is {x.dtype}, no float32, float16 or bfloat16'
    if k > MAX_INNER_CHANNELS:
        return (
            f'a group has {k} inner channels, more than {MAX_INNER_CHANNELS}'
        )
    compiled = isinstance(kernels.apply_kernel, triton.JITFunction)
    if not x.is_cuda:
        # Triton's interpreter runs on CPU tensors
        return f'the input is on {x.device}' if compiled else None
    if compiled and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(x.device)
        if capability < (8, 0):
            return (
                'the GPU has compute capability {}.{}, Triton needs 8.0'
            ).format(*capability)
    return None


def inner_products(
    phi: Tensor, g: Tensor, powers: Sequence[int]
) -> List[Tensor]:
    """<phi^p, g> for each of the powers p, ascending: (B G,) each."""
    if not powers:
        return []
    phi, g = phi.contiguous(), g.contiguous()
    rows, size = len(phi), phi[0].numel()
    block = 4096 if rows * size >= 4096 * PROGRAMS else 1024
    splits = ceil_div(size, block)
    partial = phi.new_empty(
        (max(powers) + 1, rows, splits), dtype=torch.float32
    )
    launch(
        kernels.inner_products_kernel, rows * splits,
        phi, g, partial, size, rows, splits,
        POWERS=sum(1 << power for power in powers),
        HIGHEST=max(powers), BLOCK=block,
    )  # fmt: skip
    sums = partial.sum(-1)
    return [sums[power] for power in powers]


def statistics(y: Tensor) -> Tuple[Tensor, Tensor]:
    """Mean (B G, k, 1) and covariance (B G, k, k) over the positions."""
    y = y.contiguous()
    rows, k, positions = y.shape
    inner = padded(k)
    splits, chunk = _split(positions, rows)
    mean = y.new_empty((rows, splits, k), dtype=torch.float32)
    precision = precision_of(y, mean, exact=True)  # of y - mean
    cov = y.new_empty((rows, splits, k, k), dtype=torch.float32)
    launch(
        kernels.statistics_kernel, rows * splits,
        y, mean, cov, k, positions, splits, chunk,
        ALIGN=alignment(positions), PRECISION=precision, K=inner,
        BLOCK_S=16 if inner > 64 else terms_at_once(precision),
        num_warps=warps(inner),
    )  # fmt: skip
    if splits > 1:
        parts = mean, cov
        mean, cov = mean.new_empty(rows, k), cov.new_empty(rows, k, k)
        tiles = ceil_div(k, 16)
        launch(
            kernels.join_statistics_kernel, rows * tiles,
            *parts, mean, cov, k, positions, splits, chunk, tiles,
            K=inner, LINES=16,
        )  # fmt: skip
    return mean.view(rows, k, 1), cov.view(rows, k, k)


def apply(x: Tensor, shift: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
    """x + shift + matrix y, x of any strides; see :func:`passes.apply`."""
    out = torch.empty_like(x)
    y, matrix = y.contiguous(), matrix.contiguous()
    (rows, k, positions), c = y.shape, matrix.shape[1]
    precision = precision_of(x, matrix, y)
    block_c = padded(c, 64)
    tiles_s = ceil_div(positions, 64)
    # small maps: smaller tiles, to fill the GPU
    if rows * ceil_div(c, block_c) * tiles_s < PROGRAMS:
        block_c = min(block_c, 32)
    tiles_c = ceil_div(c, block_c)
    launch(
        kernels.apply_kernel, rows * tiles_c * tiles_s,
        x, shift.contiguous(), matrix, y, out,
        c, k, positions, rows // len(x), *x.stride(), *out.stride(),
        tiles_c, tiles_s, ALIGN=alignment(positions),
        ALIGN_C=alignment(x.stride(1), out.stride(1)), PRECISION=precision,
        BLOCK_K=min(padded(k), terms_at_once(precision)),
        BLOCK_C=block_c, BLOCK_S=64,
    )  # fmt: skip
    return out


def apply_backward(d: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
    """Gradients of matrix (B G, c, k) and shift (B, C) in :func:`apply`."""
    y = y.contiguous()
    rows, k, positions = y.shape
    c = d[:, :, 0].numel() // rows
    inner, precision = padded(k), precision_of(d, y, exact=True)
    block_c = padded(c, 64)
    tiles_c = ceil_div(c, block_c)
    splits, chunk = _split(positions, rows * tiles_c)
    d_matrix = d.new_empty((splits, rows, c, k), dtype=torch.float32)
    d_shift = d.new_empty((splits, *d.shape[:2]), dtype=torch.float32)
    launch(
        kernels.apply_backward_kernel, rows * tiles_c * splits,
        d, y, d_matrix, d_shift, c, k, positions, rows, rows // len(d),
        splits, chunk, *d.stride(), tiles_c,
        ALIGN=alignment(positions), ALIGN_C=alignment(d.stride(1)),
        PRECISION=precision, K=inner, BLOCK_C=block_c,
        BLOCK_S=terms_at_once(precision), num_warps=warps(inner),
    )  # fmt: skip
    if splits == 1:
        return d_matrix[0], d_shift[0]
    return d_matrix.sum(0), d_shift.sum(0)


def input_gradient(
    d: Tensor, matrix: Tensor, y: Tensor, inside: Tensor, shift: Tensor
) -> Tensor:
    """matrix^T d + inside y + shift; see :func:`passes.input_gradient`."""
    y, matrix = y.contiguous(), matrix.contiguous()
    out = torch.empty_like(y)
    (rows, k, positions), c = y.shape, matrix.shape[1]
    inner, precision = padded(k), precision_of(matrix, inside, d, y)
    block_s = 32 if rows * ceil_div(positions, 64) < PROGRAMS else 64
    tiles_s = ceil_div(positions, block_s)
    launch(
        kernels.input_gradient_kernel, rows * tiles_s,
        d, matrix, y, inside.contiguous(), shift.contiguous(), out,
        c, k, positions, rows // len(d), *d.stride(), tiles_s,
        ALIGN=alignment(positions), ALIGN_C=alignment(d.stride(1)),
        PRECISION=precision, K=inner,
        BLOCK_K=min(inner, terms_at_once(precision)),
        BLOCK_C=min(padded(c), terms_at_once(precision)), BLOCK_S=block_s,
        num_warps=warps(inner),
    )  # fmt: skip
    return out


def _split(positions: int, programs: int) -> Tuple[int, int]:
    """Number and size of the chunks of positions for enough programs."""
    chunk = max(ceil_div(positions, ceil_div(PROGRAMS, programs)), MIN_CHUNK)
    chunk = ceil_div(chunk, 64) * 64
    return ceil_div(positions, chunk), chunk
