"""The reference path: one layer after the other, as the paper defines it.

Every other path has to give the same output and the same gradients.
"""

import math

import torch
from torch import Tensor, nn

from ..ops import cgnl_attention
from ..ops.narrow import HALF
from .narrow import can_run_narrow, in_float32, run_narrow
from .norm import contiguous_gradient


def run_reference(block: nn.Module, x: Tensor) -> Tensor:
    """Compute x + norm(W_z y) for a CGNL block and its input x."""
    if can_run_narrow(block, x):
        return run_narrow(block, x)
    theta = y = block.theta(x)
    maps = () if block.mode == 'none' else (block.phi(x), block.g(x))
    # The sum of a group leaves float16's range, and the norm cancels what a
    # narrow map keeps of a gradient.
    is_half = theta.dtype in HALF
    dtype = torch.float32 if is_half else theta.dtype
    if maps:
        scale = block.scale(math.prod(x.shape[2:]))
        y = cgnl_attention(
            theta, *maps, block.coefficients, block.groups, scale, dtype
        )
    if is_half:
        u = in_float32(block.norm, in_float32(block.conv_out, y.to(dtype)))
    else:
        u = block.norm(block.conv_out(y))
    return x + contiguous_gradient(block.norm, u).to(x.dtype)
