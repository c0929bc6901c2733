"""Steps on bfloat16 and float16 maps that keep no float32 copy of them."""

from typing import Optional

import torch
from torch import Tensor

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
        if c is None:
            return torch.mul(a, x, out=out)
        return torch.addcmul(c, a, x, out=out)
    y = a * x if c is None else c + a * x
    return y if y.dtype == like.dtype else y.to(like.dtype)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b for a sum; bfloat16 has the range of the products."""
    return widen(a) * b


def widen(x: Tensor) -> Tensor:
    """Convert float16 to float32, whose range holds products."""
    return x.float() if x.dtype == torch.float16 else x
