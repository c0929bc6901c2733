"""Moments <phi^p, g> and polynomials of narrow maps, and their gradients.

Maps are (B, G, k, S): k = C' / G channels in a group, S positions. Numbers of
each sample and group are (B, G, 1, 1) in the type of the sums. Products of
bfloat16 maps stay narrow, and their sums are float32.
"""

from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from .first_derivative import only_first
from .narrow import HALF, multiply_add, product, widen
from .series import evaluate

Numbers = Dict[int, Tensor]  # by the power p


def moments(phi: Tensor, g: Tensor, powers: Sequence[int]) -> Numbers:
    """Return the moments <phi^p, g> by power p.

    Args:
        phi (Tensor): Keys (B, G, k, S).
        g (Tensor): Values of the same shape.
        powers (Sequence[int]): The powers p, ascending.
    """
    return dict(zip(powers, _Moments.apply(list(powers), phi, g)))


def polynomial(factors: Numbers, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return sum_p factors[p] x^p.

    Args:
        factors (dict[int, Tensor]): Numbers by power p.
        x (Tensor): (B, G, k, S).
        dtype (torch.dtype): Type of the steps and of the result.
    """
    return _Polynomial.apply(list(factors), dtype, x, *factors.values())


def _derive(factors: Numbers) -> Numbers:
    """Return the factors of the derivative of a polynomial."""
    return {p - 1: p * f if p > 1 else f for p, f in factors.items() if p}


def _sum(x: Tensor) -> Tensor:
    dtype = torch.float32 if x.dtype in HALF else x.dtype
    return x.sum((-2, -1), keepdim=True, dtype=dtype)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx, powers: List[int], phi: Tensor, g: Tensor):
        ctx.powers = powers
        ctx.save_for_backward(phi, g)
        with torch.autocast(g.device.type, enabled=False):
            found, power = [], g
            for p in range(powers[-1] + 1):
                power = product(power, phi) if p else power
                if p in powers:
                    found.append(_sum(power))
        return tuple(found)

    @staticmethod
    def backward(ctx, *d):
        with torch.no_grad(), torch.autocast(d[0].device.type, enabled=False):
            d = dict(zip(ctx.powers, d))
            gradients = moments_gradient(*ctx.saved_tensors, d)
        return None, *only_first(*gradients)


class _Polynomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx, powers, dtype, x: Tensor, *factors: Tensor):
        ctx.powers = powers
        ctx.save_for_backward(x, *factors)
        with torch.autocast(x.device.type, enabled=False):
            return evaluate(dict(zip(powers, factors)), x.to(dtype))

    @staticmethod
    def backward(ctx, d):
        x, *factors = ctx.saved_tensors
        factors = dict(zip(ctx.powers, factors))
        with torch.no_grad(), torch.autocast(d.device.type, enabled=False):
            d_x, d_factors = polynomial_gradient(factors, x, d)
        return None, None, *only_first(d_x, *d_factors.values())


def moments_gradient(
    phi: Tensor, g: Tensor, d: Numbers
) -> Tuple[Tensor, Tensor]:
    """Return the gradients of phi and g from those of the moments."""
    dtype = phi.dtype
    if max(d, default=0) > 1:
        phi, g = widen(phi), widen(g)
    slopes = _derive(d)
    d_phi = multiply_add(evaluate(slopes, phi), g)
    return d_phi.to(dtype), evaluate(d, phi).to(dtype)


def polynomial_gradient(
    factors: Numbers, x: Tensor, d_y: Tensor
) -> Tuple[Tensor, Numbers]:
    """Return the gradients of x and of each factor, in the steps of d_y."""
    slopes = _derive(factors)
    wide = x.to(d_y.dtype)
    d_x = multiply_add(evaluate(slopes, wide), d_y).to(x.dtype)
    d_factors, power = {}, d_y
    for p in range(max(factors, default=0) + 1):
        power = product(power, wide) if p else power
        if p in factors:
            d_factors[p] = _sum(power)
    return d_x, d_factors
