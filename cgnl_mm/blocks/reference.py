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
    is_float16 = theta.dtype == torch.float16
    # The sum of a group leaves float16's range; the norm brings it back.
    dtype = torch.float32 if is_float16 else theta.dtype
    if block.mode == 'none':
        y = theta.to(dtype)
    else:
        maps = theta, block.phi(x), block.g(x)
        scale = block.scale(math.prod(x.shape[2:]))
        y = cgnl_attention(
            *maps, block.coefficients, block.groups, scale, dtype
        )
    if is_float16:
        u = in_float32(block.norm, in_float32(block.conv_out, y))
    else:
        u = contiguous_gradient(block.norm, block.norm(block.conv_out(y)))
    return x + u.to(x.dtype)
