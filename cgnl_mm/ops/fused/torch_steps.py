"""The steps of the fused block that read or write feature maps.

Shapes: B samples, G groups, C channels of the block's input and C' inside the
block, k = C' / G, c = C / G, S positions. Maps inside the block are
(B G, k, S). Sums run in float32 or float64.
"""

from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from ..attention import to_accumulator


def project(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Apply a 1x1 convolution (C', C) to x (B, C, S); return (B G, k, S)."""
    maps = torch.bmm(weight.expand(len(x), -1, -1), x.to(weight.dtype))
    return maps.view(len(x) * groups, -1, x.shape[-1])


def weight_gradient(d: Tensor, x: Tensor) -> Tensor:
    """Return the gradient (C', C) of a convolution's weight.

    Args:
        d (Tensor): (B, C', S) gradient of the convolution's output.
        x (Tensor): (B, C, S) input of the convolution.
    """
    # One product of all samples would write a (B, C', C) tensor.
    out = d.new_zeros(d.shape[1], x.shape[1])
    for sample, d_sample in zip(x.to(d.dtype), d):
        out.addmm_(d_sample, sample.t())
    return out


def add_product(d: Tensor, weight: Tensor, maps: Tensor) -> None:
    """Add weight^T maps to d (B, C, S), which keeps its type and layout."""
    weight = weight.expand(len(d), -1, -1)
    if d.dtype != maps.dtype:
        count = 8 if d.is_cpu else 1  # A CPU's sum widens the product.
        for part, w in zip(d.chunk(count, 1), weight.chunk(count, 2)):
            part.add_(torch.bmm(w.mT, maps))
    elif d.is_contiguous():
        d.baddbmm_(weight.mT, maps)
    else:
        d.mT.baddbmm_(maps.mT, weight)


def moments(
    phi: Tensor, g: Tensor, powers: Sequence[int]
) -> Dict[int, Tensor]:
    """Return <phi^p, g> (B G,) for each of the powers p, which ascend."""
    phi, g = to_accumulator(phi).flatten(1), to_accumulator(g).flatten(1)
    found, product, power = {}, g, 0
    for wanted in powers:
        # The last factor needs no map of its own.
        while power < wanted - 1:
            product, power = product * phi, power + 1
        found[wanted] = _row_products(phi, product) if wanted else g.sum(1)
    return found


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    # torch.bmm adds one term after the other, which costs two digits, and on
    # CUDA it multiplies in TF32 where that is allowed.
    if not a.is_cpu or a.numel() <= 2**20:
        return (a * b).sum(1)
    # On a CPU, products that fit into the cache are faster.
    return torch.stack([(x * y).sum() for x, y in zip(a, b)])


def statistics(y: Tensor) -> Tuple[Tensor, Tensor]:
    """Return mean (B G, k, 1) and covariance (B G, k, k) over positions."""
    y = to_accumulator(y)
    mean = y.mean(-1, keepdim=True)
    # E[y y] - E[y] E[y] would cancel under a mean far from zero.
    centred = y - mean
    return mean, torch.bmm(centred, centred.mT) / y.shape[-1]


def affine_residual(
    x: Tensor, shift: Tensor, matrix: Tensor, y: Tensor
) -> Tensor:
    """Return x + shift + matrix y, in the type and the layout of x.

    Args:
        x (Tensor): (B, C, S).
        shift (Tensor): (B, C).
        matrix (Tensor): (B G, c, k).
        y (Tensor): (B G, k, S).
    """
    if y.dtype == torch.float16:
        y = y.float()  # Without a norm, the matrix leaves float16's range.
    matrix = matrix.to(y.dtype)
    if y.dtype != to_accumulator(x).dtype or x.dtype != y.dtype:
        # x comes last, so that the sum is rounded once.
        u = torch.bmm(matrix, y).view(x.shape)
        return x + u.add_(shift.to(u.dtype).unsqueeze(-1)).to(x.dtype)
    out = x + shift.to(x.dtype).unsqueeze(-1)
    for part, m, maps in _by_group(out, matrix, y):
        part.baddbmm_(m, maps)
    return out


def affine_residual_backward(d: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the gradients of matrix and shift in :func:`affine_residual`."""
    d, y = to_accumulator(d), to_accumulator(y)
    parts = [torch.bmm(part, maps.mT) for part, maps in _by_group(d, y)]
    return torch.cat(parts), d.sum(-1)


def input_gradient(
    d: Tensor, matrix: Tensor, y: Tensor, inside: Tensor, shift: Tensor
) -> Tensor:
    """Return the gradient of y: matrix^T d + inside y + shift.

    Args:
        d (Tensor): (B, C, S) gradient of the block's output.
        matrix (Tensor): (B G, c, k) in float32 or float64.
        y (Tensor): (B G, k, S).
        inside (Tensor): (B G, k, k).
        shift (Tensor): (B G, k, 1).

    Returns:
        Tensor: (B G, k, S) in the type of y.
    """
    out = torch.empty_like(y)
    is_narrow = out.dtype != matrix.dtype
    count = 16 if is_narrow and out.is_cpu else 1  # A CPU widens in pieces.
    for view in _by_group(d, matrix.mT, y, inside, shift, out):
        pieces = zip(*(t.chunk(count) for t in view))
        for part, m, maps, into_y, add, piece in pieces:
            wide = matrix.new_empty(piece.shape) if is_narrow else piece
            torch.bmm(m, to_accumulator(part), out=wide)
            wide.baddbmm_(into_y, to_accumulator(maps))
            # The two products cancel where y has a mean: rounded once.
            torch.add(wide, add, out=piece)
    return out


def _by_group(x: Tensor, *others: Tensor) -> List[Tuple[Tensor, ...]]:
    """View x (B, C, S) as (B G, c, S), beside other tensors (B G, ...).

    The samples and groups of a channels-last x have no common stride: each
    sample is then a view of its own.
    """
    groups = len(others[0]) // len(x)
    if x.is_contiguous() or len(x) == 1:
        return [(x.view(len(x) * groups, -1, x.shape[-1]), *others)]
    samples = (sample.view(groups, -1, x.shape[-1]) for sample in x)
    return list(zip(samples, *(other.split(groups) for other in others)))
