"""The passes over feature maps that a folded block consists of.

Shapes: B samples, G groups, C channels of the block's input and C' of its
inside, k = C' / G, c = C / G, S positions. Maps of the inside are (B G, k, S);
sums run in float32 or wider.
"""

from typing import List, Sequence, Tuple

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """In the type of the sums."""
    # no promote_types, which the compiler of torch 2.1 refuses
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def project(x: Tensor, weight: Tensor) -> Tensor:
    """(B, C, S) by a 1x1 convolution (C', C): (B, C', S)."""
    return torch.bmm(weight.expand(len(x), -1, -1), x)


def weight_gradient(d: Tensor, x: Tensor) -> Tensor:
    """Gradient (C', C) of the weight in :func:`project`, from d (B, C', S)."""
    if x.is_cuda:  # a launch for each sample would cost more than memory
        return torch.bmm(d, x.mT).sum(0)
    out = d.new_zeros(d.shape[1], x.shape[1])
    for sample, d_sample in zip(x, d):
        out.addmm_(d_sample, sample.t())
    return out


def inner_products(
    phi: Tensor, g: Tensor, powers: Sequence[int]
) -> List[Tensor]:
    """<phi^p, g> for each of the powers p, ascending: (B G,) each."""
    phi, g = wide(phi).flatten(1), wide(g).flatten(1)
    sums, product, power = [], g, 0
    for wanted in powers:
        # the last factor needs no map of its own
        while power < wanted - 1:
            product, power = product * phi, power + 1
        sums.append(g.sum(1) if wanted == 0 else _dot(phi, product))
    return sums


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row.

    No bmm: it adds one term after the other, which costs two digits, and on
    CUDA multiplies in TF32 where that is allowed.
    """
    if a.is_cuda or a.numel() <= 2**20:
        return (a * b).sum(1)
    # on a CPU a large product is slower than several that fit the cache
    return torch.stack([(x * y).sum() for x, y in zip(a, b)])


def statistics(y: Tensor) -> Tuple[Tensor, Tensor]:
    """Mean (B G, k, 1) and covariance (B G, k, k) over the positions."""
    y = wide(y)
    mean = y.mean(-1, keepdim=True)
    # centred: a mean far from zero would cancel
    centred = y - mean
    return mean, torch.bmm(centred, centred.mT) / y.shape[-1]


def apply(x: Tensor, shift: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
    """x + shift + matrix y.

    Args:
        x (Tensor): (B, C, S).
        shift (Tensor): (B, C).
        matrix (Tensor): (B G, c, k).
        y (Tensor): (B G, k, S).

    Returns:
        Tensor: (B, C, S) in the type and the layout of x.
    """
    if y.dtype == torch.float16:
        y = y.float()  # without a norm, matrix leaves float16's range
    matrix = matrix.to(y.dtype)
    if y.dtype != wide(x).dtype or x.dtype != y.dtype:
        # x last: rounded once
        u = torch.bmm(matrix, y).view(x.shape)
        return x + u.add_(shift.to(u.dtype).unsqueeze(-1)).to(x.dtype)
    out = x + shift.to(x.dtype).unsqueeze(-1)
    for part, m, maps in _parts(out, matrix, y):
        part.baddbmm_(m, maps)
    return out


def _parts(x: Tensor, *per_group: Tensor) -> List[Tuple[Tensor, ...]]:
    """x (B, C, S) as views (n G, c, S), with the rows that belong to them.

    One for all samples; one for each where x is channels-last, whose samples
    and groups have no common stride.
    """
    groups = len(per_group[0]) // len(x)
    if x.is_contiguous() or len(x) == 1:
        shape = (len(per_group[0]), -1, x.shape[-1])
        return [(x.view(shape), *per_group)]
    parts = []
    for number, sample in enumerate(x):
        rows = slice(number * groups, (number + 1) * groups)
        view = sample.view(groups, -1, x.shape[-1])
        parts.append((view, *(t[rows] for t in per_group)))
    return parts


def apply_backward(d: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
    """Gradients of matrix (B G, c, k) and shift (B, C) in :func:`apply`."""
    d, y = wide(d), wide(y)
    parts = [torch.bmm(part, maps.mT) for part, maps in _parts(d, y)]
    return torch.cat(parts), d.sum(-1)


def input_gradient(
    d: Tensor, matrix: Tensor, y: Tensor, inside: Tensor, shift: Tensor
) -> Tensor:
    """matrix^T d + inside y + shift: the gradient of y.

    Args:
        d (Tensor): (B, C, S) gradient of the output.
        matrix (Tensor): (B G, c, k) in float32 or wider.
        y (Tensor): (B G, k, S).
        inside (Tensor): (B G, k, k).
        shift (Tensor): (B G, k, 1).

    Returns:
        Tensor: (B G, k, S) in the type of y.
    """
    # in float32 and rounded once: the two products cancel where y has a mean
    y_wide, out = wide(y), torch.empty_like(y, dtype=wide(matrix).dtype)
    for part, m, maps in _parts(wide(d), matrix.mT, out):
        torch.bmm(m, part, out=maps)
    return out.baddbmm_(inside, y_wide).add_(shift).to(y.dtype)
