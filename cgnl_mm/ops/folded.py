"""The whole block in few passes: attention, W_z, norm and residual folded.

For the dot product the attention of a group is one number a, so that
norm(W_z (a theta)) + x is an affine map of theta and x; its coefficients
follow from the mean and covariance of theta (``folded_norm.py``). Neither the
attended map nor W_z's output nor the norm's is ever formed. Other series
first form y = sum_p c_p <phi^p, g> theta^p, then go the same way.
"""

from itertools import zip_longest
from typing import List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import passes
from .folded_norm import Fold, FoldedNorm
from .taylor import split_powers


def folded_block(
    x: Tensor,
    theta: Tensor,
    phi: Optional[Tensor],
    g: Optional[Tensor],
    z: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    norm: Optional[FoldedNorm] = None,
    coefficients: Union[Sequence[float], Tensor] = (0.0, 1.0),
    groups: int = 8,
    scale: float = 1.0,
    recompute: bool = False,
    kernels=passes,
) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
    r"""x + norm(W_z y), y the compact generalized non-local operator.

    Args:
        x (Tensor): (B, C, \*spatial).
        theta (Tensor): (C', C) weight of a 1x1 convolution.
        phi (Tensor, optional): (C', C). None is no attention: y = theta.
        g (Tensor, optional): (C', C).
        z (Tensor): (C, C' / G) weight of the grouped 1x1 convolution W_z.
        weight (Tensor, optional): (C,) weight of the norm. Defaults to 1.
        bias (Tensor, optional): (C,) bias of the norm. Defaults to 0.
        norm (FoldedNorm, optional): The norm; None for none.
        coefficients (Sequence[float] | Tensor): As in
            :func:`cgnl_attention`. Defaults to the dot product.
        groups (int): Channel groups G of the operator and of W_z.
            Defaults to 8.
        scale (float): Factor of the inner products. Defaults to 1.
        recompute (bool): Whether to compute theta, phi and g again in the
            backward pass instead of keeping them. Defaults to False.
        kernels (module): The passes over feature maps.
            Defaults to ``passes``, in PyTorch.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Output like x; mean and biased variance
        that the norm computed (broadcast over (B, N, C / N)), None if given.
    """
    shape = (len(x), x.shape[1], -1)
    if norm is None:  # a scale of one
        ones = z.new_ones(len(z), dtype=torch.float32)
        norm = FoldedNorm(len(z), 0.0, mean=torch.zeros_like(ones), var=ones)
    if weight is None:
        weight = z.new_ones(len(z))
    if bias is None:
        bias = torch.zeros_like(weight)
    terms = None if phi is None else split_powers(coefficients, groups)
    tensor = coefficients if isinstance(coefficients, Tensor) else None
    out, mean, var = _Folded.apply(
        x.reshape(shape), theta, phi, g, z, weight, bias, tensor,
        norm, terms, groups, scale, recompute, kernels,
    )  # fmt: skip
    return out.view(x.shape), mean, var


class _Folded(torch.autograd.Function):
    """Shapes as in ``passes.py``; x is (B, C, S)."""

    @staticmethod
    def forward(
        ctx, x, theta, phi, g, z, weight, bias, coefficients,
        norm, terms, groups, scale, recompute, kernels,
    ):  # fmt: skip
        if coefficients is not None:
            terms = [passes.wide(term.detach()) for term in terms]
        attention = None
        if phi is not None:
            attention = _Attention(terms, groups, scale, kernels)
        maps = _project(x, theta, phi, g, groups, kernels)
        sums = attention.sums(*maps[1:]) if attention else []
        y, factor = maps[0], None
        if attention:
            y, factor = attention.attend(maps[0], sums)
        mean, cov = kernels.statistics(y)
        fold = _fold(factor, mean, cov, z, weight, bias, norm, groups)
        out = kernels.apply(x, fold.shift, fold.scaled.flatten(0, 1), y)
        ctx.save_for_backward(
            x, theta, phi, g, z, weight, bias, coefficients, mean, cov,
            *sums, *([] if recompute else maps),
        )  # fmt: skip
        ctx.settings = attention, norm, groups, kernels, len(sums)
        if norm.mean is not None:
            return out, None, None
        ctx.mark_non_differentiable(fold.m, fold.v)
        return out, fold.m, fold.v

    @staticmethod
    @once_differentiable
    def backward(ctx, d, *_):
        attention, norm, groups, kernels, num_sums = ctx.settings
        x, theta, phi, g, z, weight, bias, coefficients, mean, cov, *rest = (
            ctx.saved_tensors
        )
        sums, maps = rest[:num_sums], rest[num_sums:]
        if not maps:
            maps = _project(x, theta, phi, g, groups, kernels)
        y, factor = maps[0], None
        if attention:
            y, factor = attention.attend(maps[0], sums)
        fold = _fold(factor, mean, cov, z, weight, bias, norm, groups)
        d_matrix, d_shift = kernels.apply_backward(d, y)
        d_matrix, d_factor, d_mean, d_cov, d_weight, d_bias = fold.backward(
            d_matrix.view_as(fold.scaled), d_shift
        )
        # mean and covariance of y lead to y again
        inside = 2 / x.shape[-1] * d_cov
        shift = d_mean / x.shape[-1] - torch.matmul(inside, fold.mean)
        d_y = kernels.input_gradient(
            d, fold.scaled.flatten(0, 1), y,
            inside.flatten(0, 1), shift.flatten(0, 1),
        )  # fmt: skip
        d_z = d_matrix.sum(0).view(z.shape).to(z.dtype)
        d_maps, d_coefficients = [d_y.to(theta.dtype)], None
        if attention:
            d_maps, d_coefficients = attention.backward(
                *maps, sums, d_y, d_factor, coefficients
            )
        d_x, d_weights = _project_backward(d, x, (theta, phi, g), d_maps)
        return (
            d_x, *d_weights, d_z, d_weight.to(weight.dtype),
            d_bias.to(bias.dtype), d_coefficients, *(None,) * 6,
        )  # fmt: skip


def _fold(factor, mean, cov, z, weight, bias, norm, groups) -> Fold:
    """The affine map, from small tensors alone."""
    per_group = (-1, groups, *mean.shape[1:])
    mean, cov = mean.view(per_group), cov.view(-1, groups, *cov.shape[1:])
    matrix = passes.wide(z).view(groups, -1, z.shape[1])
    return Fold(
        matrix.expand(len(mean), -1, -1, -1), factor, mean, cov,
        passes.wide(weight), passes.wide(bias), norm,
    )  # fmt: skip


def _project(x, theta, phi, g, groups, kernels) -> List[Tensor]:
    """theta(x), phi(x) and g(x), (B G, k, S) each."""
    x = x.to(theta.dtype)
    return [
        kernels.project(x, weight).view(len(x) * groups, -1, x.shape[-1])
        for weight in (theta, phi, g)
        if weight is not None
    ]


def _project_backward(d, x, weights, d_maps):
    """Gradients of x, residual included, and of the three weights."""
    d_x, d_weights = d.clone(memory_format=torch.preserve_format), []
    for weight, d_map in zip_longest(weights, d_maps):
        if weight is None:
            d_weights.append(None)
            continue
        d_map = d_map.view(len(x), -1, x.shape[-1])
        _add_product(d_x, weight, d_map)
        d_weights.append(passes.weight_gradient(d_map, x.to(weight.dtype)))
    return d_x, d_weights


def _add_product(d: Tensor, weight: Tensor, d_map: Tensor) -> None:
    """Add weight^T d_map to d (B, C, S), whose type and layout stay."""
    weight = weight.expand(len(d), -1, -1)
    if d.dtype != d_map.dtype:
        d.add_(torch.bmm(weight.mT, d_map))
    elif d.is_contiguous():
        d.baddbmm_(weight.mT, d_map)
    else:
        d.mT.baddbmm_(d_map.mT, weight)


class _Attention:
    """y = s sum_p c_p <phi^p, g> theta^p per sample and group.

    For the first power alone (the dot product) y stays theta, and its factor
    goes into W_z.
    """

    def __init__(self, terms, groups, scale, kernels) -> None:
        self.kernels = kernels
        self.terms = {
            power: scale * term
            for power, term in enumerate(terms)
            if isinstance(term, Tensor) or term != 0
        }
        self.scale, self.groups = scale, groups
        self.is_dot = list(self.terms) == [1]

    def sums(self, phi: Tensor, g: Tensor) -> List[Tensor]:
        """<phi^p, g>, (B G,) for each power."""
        return self.kernels.inner_products(phi, g, list(self.terms))

    def _moments(self, sums):
        """Factor of each theta^p, (B G, 1, 1)."""
        moments = {}
        for (power, term), value in zip(self.terms.items(), sums):
            value = value.view(-1, self.groups)
            if isinstance(term, Tensor):
                term = term.flatten()
            moments[power] = (term * value).view(-1, 1, 1)
        return moments

    def attend(self, theta: Tensor, sums):
        """y (B G, k, S), and the factor (B, G) that it lacks, or None."""
        moments = self._moments(sums)
        if self.is_dot:
            return theta, moments[1].view(-1, self.groups)
        wide = passes.wide(theta)
        y = torch.zeros_like(wide)
        for power in range(max(moments, default=0), -1, -1):
            y = y * wide
            if power in moments:
                y = y + moments[power]
        return y, None

    def backward(self, theta, phi, g, sums, d_y, d_factor, coefficients):
        """Gradients of the three maps (B G, k, S) and the coefficients."""
        moments = self._moments(sums)
        if self.is_dot:
            d_moments, d_theta = {1: d_factor.flatten()}, d_y
        else:
            d_moments, d_theta = {}, torch.zeros_like(d_y)
            power_map, wide = d_y, passes.wide(theta)
            for power in range(max(moments, default=0) + 1):
                if power:
                    if power in moments:
                        d_theta = d_theta + power * moments[power] * power_map
                    power_map = power_map * wide
                if power in moments:
                    d_moments[power] = power_map.sum((1, 2))
        d_sums = {
            power: (
                d_moments[power].view(-1, self.groups)
                * (term.flatten() if isinstance(term, Tensor) else term)
            ).view(-1, 1, 1)
            for power, term in self.terms.items()
        }
        if self.is_dot:
            factor = d_sums[1].to(phi.dtype)
            d_phi, d_g = factor * g, factor * phi
        else:
            wide, values = passes.wide(phi), passes.wide(g)
            d_phi, d_g = torch.zeros_like(wide), torch.zeros_like(wide)
            power_map = torch.ones_like(wide)
            for power in range(max(d_sums, default=0) + 1):
                if power in d_sums:
                    d_g = d_g + d_sums[power] * power_map
                if power + 1 in d_sums:
                    factor = (power + 1) * d_sums[power + 1]
                    d_phi = d_phi + factor * power_map
                power_map = power_map * wide
            d_phi = d_phi * values
        d_maps = [d.to(phi.dtype) for d in (d_theta, d_phi, d_g)]

        d_coefficients = None
        if coefficients is not None:
            d_terms = [
                self.scale * (d_moments[power] * value).view(-1, self.groups)
                for power, value in zip(self.terms, sums)
            ]
            d_coefficients = torch.stack([d.sum(0) for d in d_terms], -1)
            if coefficients.dim() == 1:
                d_coefficients = d_coefficients.sum(0)
            d_coefficients = d_coefficients.to(coefficients.dtype)
        return d_maps, d_coefficients
