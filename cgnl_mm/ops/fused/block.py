"""The whole block in few passes: attention, W_z, norm and residual folded.

For the dot product the attention of a group is one number a, so that
norm(W_z (a theta)) + x is an affine map of theta and x; its coefficients
follow from the mean and covariance of theta (``folded_norm.py``). Neither the
attended map nor W_z's output nor the norm's is ever formed. Other series
first form y = sum_p c_p <phi^p, g> theta^p, then go the same way.
"""

import math
from typing import Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..series import split_powers
from . import torch_steps as passes
from .moments import GramSums, MapSums, add_product, to_groups
from .norm import Fold, FoldedNorm
from .series import Attention


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
    use_gram: bool = False,
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
        use_gram (bool): Whether to take <phi, g> from the Gram matrix of x,
            without phi and g (``inner_sums.py``). Defaults to False.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Output like x; mean and biased variance
        that the norm computed (broadcast over (B, N, C / N)), None if given.

    Raises:
        ValueError: If ``use_gram``, but the series is not the dot product.
    """
    shape = (len(x), x.shape[1], math.prod(x.shape[2:]))
    if norm is None:  # a scale of one
        ones = z.new_ones(len(z), dtype=torch.float32)
        norm = FoldedNorm(len(z), 0.0, mean=torch.zeros_like(ones), var=ones)
    if weight is None:
        weight = z.new_ones(len(z))
    if bias is None:
        bias = torch.zeros_like(weight)
    attention = source = None
    if phi is not None:
        terms = [
            passes.wide(term.detach()) if isinstance(term, Tensor) else term
            for term in split_powers(coefficients, groups)
        ]
        attention = Attention(terms, groups, scale)
        if not use_gram:
            source = MapSums(groups, attention.powers, recompute)
        elif attention.is_dot:
            source = GramSums(
                groups,
                keep=torch.is_grad_enabled()
                and not recompute
                and (phi.requires_grad or g.requires_grad),
            )
        else:
            raise ValueError(
                'use_gram=True serves the dot product alone, got powers '
                f'{attention.powers}'
            )
    tensor = coefficients if isinstance(coefficients, Tensor) else None
    out, mean, var = _Folded.apply(
        x.reshape(shape), theta, phi, g, z, weight, bias, tensor,
        norm, attention, source, groups, recompute,
    )  # fmt: skip
    return out.view(x.shape), mean, var


class _Folded(torch.autograd.Function):
    """Shapes as in ``passes.py``; x is (B, C, S)."""

    @staticmethod
    def forward(
        ctx, x, theta, phi, g, z, weight, bias, coefficients,
        norm, attention, source, groups, recompute,
    ):  # fmt: skip
        theta_map = _project(x, theta, groups)
        sums, held, y, factor = [], [], theta_map, None
        if attention:
            sums, held = source.forward(x, phi, g)
            y, factor = attention.attend(theta_map, sums)
        mean, cov = passes.statistics(y)
        fold = Fold(factor, mean, cov, z, weight, bias, norm, groups)
        out = passes.apply(x, fold.shift, fold.matrix, y)
        ctx.save_for_backward(
            x, theta, phi, g, z, weight, bias, coefficients, mean, cov,
            None if recompute else theta_map, norm.mean, norm.var, *sums,
            *held,
        )  # fmt: skip
        ctx.settings = attention, source, norm, groups, len(sums)
        if norm.mean is not None:
            return out, None, None
        ctx.mark_non_differentiable(fold.m, fold.v)
        return out, fold.m, fold.v

    @staticmethod
    def backward(ctx, d, *_):
        # called inside of it, autocast would change the types of the products
        with torch.no_grad(), torch.autocast(d.device.type, enabled=False):
            gradients = _gradients(ctx, d)
        if not torch.is_grad_enabled():
            return gradients
        return _refuse_second_derivative(gradients)


def _gradients(ctx, d: Tensor) -> tuple:
    """One for each argument of :meth:`_Folded.forward`."""
    attention, source, norm, groups, num_sums = ctx.settings
    (
        x, theta, phi, g, z, weight, bias, coefficients, mean, cov,
        theta_map, _, _, *rest,  # those of the norm: checked for changes
    ) = ctx.saved_tensors  # fmt: skip
    sums, held = rest[:num_sums], rest[num_sums:]
    if theta_map is None:
        theta_map = _project(x, theta, groups)
    y, factor = theta_map, None
    if attention:
        y, factor = attention.attend(theta_map, sums)
    fold = Fold(factor, mean, cov, z, weight, bias, norm, groups)
    d_factor, d_mean, d_cov, d_z, d_weight, d_bias = fold.backward(
        *passes.apply_backward(d, y)
    )
    # the moments of y lead to y again
    inside = 2 / x.shape[-1] * d_cov
    shift = d_mean / x.shape[-1] - torch.matmul(inside, mean)
    d_theta = passes.input_gradient(d, fold.matrix, y, inside, shift)
    d_coefficients = None
    if attention:
        d_theta, d_sums, d_coefficients = attention.backward(
            theta_map, sums, d_theta, d_factor, coefficients
        )
    d_theta = d_theta.to(theta.dtype).view(len(x), -1, x.shape[-1])
    needed = ctx.needs_input_grad
    d_x, d_weights = None, [None, None, None]
    if needed[0]:
        d_x = d.clone(memory_format=torch.preserve_format)  # the residual
        add_product(d_x, theta, d_theta)
    if needed[1]:
        d_weights[0] = passes.weight_gradient(d_theta, x.to(theta.dtype))
    if attention and any((needed[0], needed[2], needed[3])):
        d_weights[1:] = source.backward(
            x, phi, g, held, d_sums, d_x, needed[2:4]
        )
    return (
        d_x, *d_weights, d_z.to(z.dtype), d_weight.to(weight.dtype),
        d_bias.to(bias.dtype), d_coefficients, *(None,) * 5,
    )  # fmt: skip


class _FirstOnly(torch.autograd.Function):
    """The identity, without a derivative."""

    @staticmethod
    def forward(ctx, *gradients):
        return gradients

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            'the folded paths of CGNL have no second derivative: build the '
            "block with backend='reference'"
        )


def _refuse_second_derivative(gradients: tuple) -> tuple:
    """Tie them to an error: ``once_differentiable`` leaves some constant."""
    given = [g.detach().requires_grad_() for g in gradients if g is not None]
    given = iter(_FirstOnly.apply(*given))
    return tuple(None if g is None else next(given) for g in gradients)


def _project(x, theta, groups) -> Tensor:
    """theta(x), (B G, k, S)."""
    return to_groups(passes.project(x.to(theta.dtype), theta), groups)
