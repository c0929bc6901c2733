"""The norm of a map that one number scales, wherever statistics are shared.

This is ``scaled_norm.py`` for one number a for each set of values that share
their statistics, in few operators: the mean and the sum of squares of a whole
set serve, and h_u is its only sum.
"""

import torch
from torch import Tensor

from .first_derivative import only_first
from .narrow import HALF, multiply_add, sum_with_products


class OneFactorNorm(torch.autograd.Function):
    """Compute x + norm(a u), and the negative variance of a u.

    The maps are (B, N, c, S): c of C channels in N sets of the norm. The
    weight and the bias are (N, c), and a is (B, N, 1).
    """

    @staticmethod
    def forward(ctx, eps: float, x, u, weight, bias, a):
        with torch.autocast(u.device.type, enabled=False):
            mean = u.mean((2, 3), dtype=a.dtype).unsqueeze(-1)
            # In two steps: a sum over a whole set would lose digits.
            size = torch.linalg.vector_norm(u, dim=3, dtype=a.dtype)
            size = torch.linalg.vector_norm(size, dim=2).unsqueeze(-1)
            # The negative variance takes one operator less.
            n = u.shape[2] * u.shape[3]
            negative = torch.addcmul(mean.square(), size, size, value=-1 / n)
            negative = negative.clamp_max_(0) * a * a
            r = torch.rsub(negative, eps).rsqrt_()
            factor = r * a
            scale = factor * weight
            shift = torch.addcmul(bias, scale, mean, value=-1)
            out = add_affine(x, u, scale[..., None], shift[..., None])
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, weight, a, mean, r, factor, scale)
        ctx.mark_non_differentiable(mean, negative)
        return out, mean, negative

    @staticmethod
    def backward(ctx, d, *_):
        u, weight, a, mean, r, factor, scale = ctx.saved_tensors
        n = u.shape[2] * u.shape[3]
        with torch.no_grad(), torch.autocast(d.device.type, enabled=False):
            sums = sum_with_products(d, u, mean)
            h, q = _weigh(sums, weight, -1 / n)
            inside = factor.pow(3) * h  # a alone may leave float32's range.
            shift = torch.addcmul(factor * q, inside, mean, value=-1)
            # What comes from the statistics is small, so its rounding is.
            d_u = multiply_add(inside[..., None], u, shift[..., None])
            d_u = multiply_add(scale[..., None], d, d_u, like=u)
            sums[0].mul_(factor)
            d_weight, d_bias = sums.sum(1)
            d_a = -ctx.eps * n * r.pow(3) * h
        return None, *only_first(d, d_u, d_weight, d_bias, d_a)


def _weigh(sums: Tensor, weight: Tensor, times: float) -> Tensor:
    """Return ``times`` the weighted sum (2, B, N, 1) of each set."""
    rows = sums.flatten(0, 1).transpose(0, 1)  # (N, 2 B, c)
    found = torch.baddbmm(
        rows.new_empty(1), rows, weight[..., None], beta=0, alpha=times
    )
    return found.transpose(0, 1).unflatten(0, (2, -1))


def add_affine(x: Tensor, u: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x + scale u + shift, in the type of x."""
    if x.dtype in HALF:
        # The small terms are added first.
        return (x + multiply_add(scale, u, shift)).to(x.dtype)
    return (x + shift).addcmul_(scale, u)
