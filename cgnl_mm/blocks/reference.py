"""The reference path: one layer after the other, as the paper defines it.

Every other path has to give the same output and the same gradients.
"""

import math

import torch
from torch import Tensor, nn

from ..ops import cgnl_attention
from .norm import contiguous_gradient
from .precision import in_float32


def run_reference(block: nn.Module, x: Tensor) -> Tensor:
    """Compute x + norm(W_z y) for a CGNL block and its input x."""
    theta = block.theta(x)
    if theta.dtype == torch.float16:
        # The sum of a group leaves float16's range; the norm brings it back.
        y = _attend(block, x, theta, torch.float32)
        u = in_float32(block.norm, in_float32(block.conv_out, y))
    else:
        y = _attend(block, x, theta, theta.dtype)
        u = block.norm(block.conv_out(y))
        u = contiguous_gradient(block.norm, u)
    return x + u.to(x.dtype)


def _attend(
    block: nn.Module, x: Tensor, theta: Tensor, dtype: torch.dtype
) -> Tensor:
    if block.mode == 'none':
        return theta.to(dtype)
    maps = theta, block.phi(x), block.g(x)
    scale = block.scale(math.prod(x.shape[2:]))
    return cgnl_attention(
        *maps, block.coefficients, block.groups, scale, dtype
    )
