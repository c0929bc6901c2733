"""The norm of a map times a number, and the residual.

The attention of a group is one number a for each sample, and a constant term
of the series adds one number b to the input of W_z. With u = W_z theta, the
norm of v = a u + b kappa needs the float32 sums of u and of u^2 alone: neither
a u nor norm(v) is formed, and no map is copied to float32.

The norm cancels the common factor of a and b all but completely. The chain of
layers gets what is left of its gradient as a difference of large numbers,
which the rounding of a map outweighs. Here it is a product, as follows. Let N
values share their statistics, r = (var + eps)^(-1/2), and let D be the
gradient of the output times the norm's weight. All sums are centred:

    h_u = <D, u>   h_k = <D, kappa>   e_u = <u, v>   e_k = <kappa, v>
    T = (h_u e_k - e_u h_k) / N
    dL/da = r^3 (eps h_u + b T)       dL/db = r^3 (eps h_k - a T)

Where several pairs (a, b) share their statistics, the sums over the other
pairs enter in the same way.
"""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor

from .first_derivative import only_first
from .fused.plan import Norm
from .narrow import multiply_add, sum_with_products
from .one_factor import OneFactorNorm, add_affine


def scaled_norm(
    norm: Norm,
    x: Tensor,
    u: Tensor,
    affine: Tuple[Tensor, Tensor],
    a: Tensor,
    b: Optional[Tensor] = None,
    kappa: Optional[Tensor] = None,
) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
    r"""Compute x + norm(a u + b kappa).

    Args:
        norm (Norm): How the norm takes its statistics.
        x (Tensor): (B, C, \*spatial).
        u (Tensor): Map of the same shape.
        affine (tuple[Tensor, Tensor]): Weight and bias (C,) of the norm, in
            the type of the sums: float32, or float64 for a float64 u. So are
            all that follow.
        a (Tensor): (B, G) factor of each channel group.
        b (Tensor, optional): (B, G) factor of kappa. Defaults to None.
        kappa (Tensor, optional): (C,) constant of each channel. Defaults to
            None.

    Returns:
        tuple[Tensor, ...]: Output like x; mean and biased variance of a norm
        over the batch, (1, N, C / N). Those of another norm may be None.
    """
    sets = norm.groups, -1
    maps = [t.flatten(2).unflatten(1, sets) for t in (x, u)]
    affine = (t.view(sets) for t in affine)
    layout = _Layout(norm, maps[1], a)
    if norm.mean is None and b is None and not layout.has_others:
        a = layout.spread(a, to=layout.cells)
        out, mean, var = OneFactorNorm.apply(norm.eps, *maps, *affine, a)
        mean, var = (a * mean, -var) if norm.over_batch else (None, None)
    else:
        kappa = None if kappa is None else kappa.view(sets)
        out, mean, var = _ScaledNorm.apply(norm, *maps, *affine, a, b, kappa)
    return out.view(x.shape), mean, var


class _ScaledNorm(torch.autograd.Function):
    """The shapes are (B, N, c, S): c of C channels in N groups of the norm.

    Numbers of each channel are (B, N, c), or (N, c).
    """

    @staticmethod
    def forward(ctx, norm: Norm, x, u, weight, bias, a, b, kappa):
        with torch.autocast(u.device.type, enabled=False):
            layout = _Layout(norm, u, a)
            factor, k = layout.spread(a), None
            if b is not None:
                k = layout.spread(b) * kappa
            if norm.mean is None:
                mean, base, *centred = layout.centre(factor, u, k)
                _, u_var, delta = centred
                var = torch.addcmul(delta.square(), factor * factor, u_var)
                var = layout.mean(var)
            else:
                shape = layout.sets, -1
                mean, var = norm.mean.view(shape), norm.var.view(shape)
                base = -mean if k is None else k - mean
                centred = None, None, None
            r = torch.rsqrt(var + norm.eps)
            rw = r * weight
            scale, shift = factor * rw, torch.addcmul(bias, base, rw)
            out = add_affine(x, u, scale[..., None], shift[..., None])
        ctx.norm = norm
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, *centred, base, r, weight, scale, a, b, kappa)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx, d, *_):
        with torch.no_grad(), torch.autocast(d.device.type, enabled=False):
            gradients = _gradients(ctx.norm, d, *ctx.saved_tensors)
        return None, *only_first(d, *gradients)


class _Layout:
    """How channels, sets of the norm, and pairs (a, b) lie in each other.

    A cell is what a set and a pair of one sample have in common.
    """

    def __init__(self, norm: Norm, u: Tensor, a: Tensor) -> None:
        self.batch, self.sets, channels, self.positions = u.shape
        self.channels, self.groups = self.sets * channels, a.shape[1]
        self.dtype = a.dtype
        self.dims = (0, 2) if norm.over_batch else (2,)
        samples = self.batch if norm.over_batch else 1
        # The number of values that share their statistics.
        self.count = samples * channels * self.positions
        self.cells = math.lcm(self.groups, self.sets)
        self.has_others = samples * self.cells > self.sets

    def spread(self, t: Tensor, to: int = 0) -> Tensor:
        """Repeat (B, G) for each channel, or for so many cells."""
        if self.groups == self.sets:
            return t.unsqueeze(-1)
        repeats = (to or self.channels) // self.groups
        t = t.repeat_interleave(repeats, 1)
        return t.unflatten(1, (self.sets, -1))

    def mean(self, t: Tensor) -> Tensor:
        return t.mean(self.dims, keepdim=True)

    def sum_cells(self, t: Tensor) -> Tensor:
        """Sum (B, N, cells / N) over each set."""
        return t.sum(self.dims, keepdim=True) if self.has_others else t

    def by_cell(self, t: Tensor) -> Tensor:
        """Sum numbers of each channel over each cell: (B, N, cells / N)."""
        return t.unflatten(2, (self.cells // self.sets, -1)).sum(-1)

    def by_pair(self, t: Tensor) -> Tensor:
        """Sum numbers of cells over each pair: (B, G)."""
        t = t.reshape(self.batch, self.groups, -1)
        return t.sum(-1) if t.shape[-1] > 1 else t.squeeze(-1)

    def centre(
        self, factor: Tensor, u: Tensor, k: Optional[Tensor]
    ) -> Tuple[Tensor, ...]:
        """Return the statistics of v = factor u + k.

        Returns:
            tuple[Tensor, ...]: The mean of v; k less that mean; mean and
            variance of u in each channel; the mean of v in each channel,
            less the mean of v.
        """
        u_mean = u.mean(-1, dtype=self.dtype)
        norm = torch.linalg.vector_norm(u, dim=-1, dtype=self.dtype)
        u_var = norm.square() / self.positions
        u_var = u_var.addcmul_(u_mean, u_mean, value=-1).clamp_min_(0)
        v_mean = factor * u_mean
        mean = self.mean(v_mean)
        base = -mean
        if k is not None:
            # It may be a million times larger than v less k.
            k_mean = self.mean(k)
            base, mean = k - k_mean - mean, mean + k_mean
        return mean, base, u_mean, u_var, base + v_mean


def _gradients(
    norm: Norm, d: Tensor, u: Tensor, *numbers: Optional[Tensor]
) -> Tuple[Optional[Tensor], ...]:
    """Return the gradients of u, weight, bias, a, b and kappa."""
    *numbers, scale, a, b, kappa = numbers
    layout = _Layout(norm, u, a)
    u_mean, pair = numbers[0], (a, b, kappa)
    centre = scale.new_zeros(1) if u_mean is None else u_mean
    sums = _, q = sum_with_products(d, u, centre)
    if norm.mean is None:
        found = _differentiate(layout, norm.eps, sums, pair, *numbers)
        inside, shift, d_weight, d_a, d_b, d_k = found
        # What comes from the statistics is small, so that its rounding is.
        shift = multiply_add(inside[..., None], u, shift[..., None])
    else:
        shift = None
        d_weight, d_a, d_b, d_k = _differentiate_affine(
            layout, sums, pair, *numbers
        )
    d_u = multiply_add(scale[..., None], d, shift, like=u)
    d_kappa = None
    if b is not None:
        d_kappa = (layout.spread(b) * d_k).sum(0)
    return d_u, d_weight, q.sum(0), d_a, d_b, d_kappa


def _differentiate_affine(layout, sums, pair, _, __, ___, base, r, weight):
    """Return the gradients of weight, a, b and k with given statistics."""
    (p, q), (a, b, kappa) = sums, pair
    d_weight = torch.addcmul(base * q, layout.spread(a), p) * r
    rw = r * weight
    d_a, d_b, d_k = layout.by_pair(layout.by_cell(rw * p)), None, rw * q
    if b is not None:
        d_b = layout.by_pair(layout.by_cell(d_k * kappa))
    return d_weight.sum(0), d_a, d_b, d_k


def _differentiate(
    layout, eps, sums, pair, u_mean, u_var, delta, base, r, weight
):
    """Return the gradients of weight, a, b and k, after two of u.

    The gradient of u is the gradient of the output times a number, plus u
    times the first, plus the second.
    """
    (p, q), (a, b, kappa) = sums, pair
    factor, size = layout.spread(a), layout.positions
    d_weight = (torch.addcmul(delta * q, factor, p) * r).sum(0)
    q = weight * q
    q_mean = layout.mean(q)
    q = q - q_mean
    h_u = layout.by_cell(torch.addcmul(weight * p, u_mean, q))
    e_u = torch.addcmul(u_mean * delta, factor, u_var)
    e_u = layout.by_cell(e_u) * (size / layout.count)
    h_k = e_k = None
    if b is not None:
        h_k = layout.by_cell(kappa * q)
        e_k = layout.by_cell(kappa * delta) * (size / layout.count)
    d_a, d_b, h = _differentiate_pairs(
        layout, eps, (a, b), (h_u, h_k), (e_u, e_k)
    )
    cube = r * r * r
    slope = cube * h / layout.count
    d_a = layout.by_pair(cube * d_a)
    d_k = None
    if b is not None:
        d_b = layout.by_pair(cube * d_b)
        d_k = torch.addcmul(r * q, slope, delta, value=-size)
    # v less its mean is a u + base.
    slope = -factor * slope
    shift = torch.addcmul(slope * base, factor * r, q_mean, value=-1 / size)
    return slope * factor, shift, d_weight, d_a, d_b, d_k


def _differentiate_pairs(layout, eps, pair, h, e):
    """Return the gradients of a and b over r^3, by cell, and <D, v>.

    The arguments h and e hold the sums of the module's head for u and kappa,
    e divided by N.
    """
    (h_u, h_k), (e_u, e_k) = h, e
    a, b = (
        None if t is None else layout.spread(t, layout.cells) for t in pair
    )
    d_a, d_b, h_v = eps * h_u, None, a * h_u
    if b is not None:
        t = torch.addcmul(h_u * e_k, e_u, h_k, value=-1)
        d_a = torch.addcmul(d_a, b, t)
        d_b = torch.addcmul(eps * h_k, a, t, value=-1)
        h_v = torch.addcmul(h_v, b, h_k)
    total = layout.sum_cells(h_v)
    if layout.has_others:
        e_v = a * e_u if b is None else torch.addcmul(a * e_u, b, e_k)
        others = layout.sum_cells(e_v) - e_v, total - h_v
        d_a = d_a + h_u * others[0] - e_u * others[1]
        if b is not None:
            d_b = d_b + h_k * others[0] - e_k * others[1]
    return d_a, d_b, total
