"""Steps on bfloat16 and float16 maps that keep no float32 copy of them."""

from typing import Iterable, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .torch_versions import is_compiling

HALF = torch.bfloat16, torch.float16


def multiply_add(
    a: Tensor,
    x: Tensor,
    c: Optional[Tensor] = None,
    like: Optional[Tensor] = None,
) -> Tensor:
    """Return a x + c, rounded once.

    Args:
        a (Tensor): A map, or numbers in the type of the sums.
        x (Tensor): Map.
        c (Tensor, optional): As a. Defaults to None, which is 0.
        like (Tensor, optional): Map of the type of the result. Defaults to
            None, which is x.
    """
    like = x if like is None else like
    if like.dtype in HALF and not is_compiling():
        out = torch.empty_like(like)
        step = torch.mul if c is None else torch.addcmul
        tensors = [t for t in (c, a, x) if t is not None]
        whole = (*tensors, out)
        # A CPU widens what it reads.
        for *given, piece in _cut(*whole) if like.is_cpu else [whole]:
            step(*given, out=piece)
        return out
    y = a * x if c is None else c + a * x
    return y if y.dtype == like.dtype else y.to(like.dtype)


def _cut(*tensors: Tensor) -> Iterable[Tuple[Tensor, ...]]:
    """Cut tensors, which expand to the last, along its longest axis but S."""
    shape = tensors[-1].shape
    axis = max(range(len(shape) - 1), key=shape.__getitem__)
    return zip(*(t.expand(shape).chunk(16, axis) for t in tensors))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b for a sum; bfloat16 has the range of the products."""
    return widen(a) * b


def sum_with_products(d: Tensor, u: Tensor, mean: Tensor) -> Tensor:
    """Return the sums of d (u - mean) and of d over the last axis.

    Args:
        d (Tensor): Map (B, N, c, S).
        u (Tensor): Map of the same shape.
        mean (Tensor): Numbers that broadcast to (B, N, c), in the type of
            the sums.

    Returns:
        Tensor: (2, B, N, c).
    """
    shape, device = d.shape[:-1], d.device.type
    # CUDA rounds each product to the type of the maps.
    has_range = device == 'cpu' or d.dtype != torch.float16
    is_known = device in ('cpu', 'cuda') and not is_compiling()
    # The product would be one more map; rows of another layout are two.
    is_mixed = is_known and device == 'cpu' and d.dtype != u.dtype
    if is_mixed and d.is_contiguous() and u.is_contiguous():
        d, u = d.to(mean.dtype), u.to(mean.dtype)
    if d.dtype == u.dtype and has_range and is_known:
        # A batch norm's gradients of its weight and bias are these sums. It
        # reads each map once; on a CPU, no product of rows is rounded.
        rows = [t.reshape(1, -1, t.shape[-1]).contiguous() for t in (d, u)]
        numbers = pad(mean.expand(1, *shape), (0, 0) * 3 + (0, 1), value=1.0)
        mean, ones = numbers.flatten(1)
        found = torch.ops.aten.native_batch_norm_backward(
            *rows, ones, None, None, mean, ones, True, 0, [False, True, True]
        )[1:]
    else:
        q = d.sum(-1, dtype=mean.dtype)
        p = product(d, u).sum(-1, dtype=mean.dtype)
        found = torch.addcmul(p, mean, q, value=-1), q
    return torch.stack(found).view(2, *shape)


def widen(x: Tensor) -> Tensor:
    """Convert float16 to float32, whose range holds products."""
    return x.float() if x.dtype == torch.float16 else x
