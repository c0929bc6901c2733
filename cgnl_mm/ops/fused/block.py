"""The whole block as one autograd function.

For the dot product, the attention of a group is one number a. The block
norm(W_z (a theta)) + x then is an affine map of theta and x, whose
coefficients follow from the mean and the covariance of theta (``norm.py``).
Neither the attended map nor the output of W_z or of the norm is formed. Other
series first form y = sum_p c_p <phi^p, g> theta^p, and then go the same way.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ..first_derivative import only_first
from ..torch_versions import release_saved
from . import torch_steps as steps
from .moments import MomentsFromGram, MomentsFromMaps
from .norm import affine_norm, affine_norm_backward
from .plan import Plan, Weights

NORM = slice(1, 4)  # z, norm_weight and norm_bias among the weights


def fused_block(
    plan: Plan, x: Tensor, weights: Weights
) -> Tuple[Tensor, Tensor, Tensor]:
    r"""Compute x + norm(W_z y), y the compact generalized non-local operator.

    Args:
        plan (Plan): How the block is computed.
        x (Tensor): (B, C, \*spatial).
        weights (Weights): What the block has learnt.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Output like x; mean and biased variance
        of the norm, which broadcast over (B, N, C / N).
    """
    out, mean, var = _FusedBlock.apply(plan, x.flatten(2), *weights)
    return out.view(x.shape), mean, var


class _FusedBlock(torch.autograd.Function):
    """The shapes are those of ``torch_steps.py``; x is (B, C, S)."""

    @staticmethod
    def forward(ctx, plan: Plan, x: Tensor, *weights: Optional[Tensor]):
        ctx.plan, weights = plan, Weights(*weights)
        theta = steps.project(x, weights.theta, plan.groups)
        moments, kept = {}, []
        if plan.series.powers:
            source = _moments_source(plan, x, weights)
            moments, kept = source.forward(keep=not plan.recompute)
        y, *numbers = plan.series.attend(theta, moments)
        mean, cov = steps.statistics(y)
        inputs = *weights[NORM], *numbers, mean, cov
        matrix, shift, *statistics = affine_norm(plan, *inputs)
        out = steps.affine_residual(x, shift, matrix, y)
        # Autograd finds out if the norm's statistics change before backward.
        ctx.save_for_backward(
            x, *weights, plan.norm.mean, plan.norm.var, mean, cov,
            None if plan.recompute else theta, *moments.values(), *kept,
        )  # fmt: skip
        ctx.mark_non_differentiable(*statistics)
        return out, *statistics

    @staticmethod
    def backward(ctx, d: Tensor, *_):
        # Autocast would change the types of the products.
        with torch.no_grad(), torch.autocast(d.device.type, enabled=False):
            gradients = _gradients(ctx, d)
        return None, *only_first(*gradients)


def _gradients(ctx, d: Tensor) -> Tuple[Optional[Tensor], ...]:
    """Return the gradients of x and of each weight."""
    plan, (x, *saved) = ctx.plan, ctx.saved_tensors
    release_saved(ctx)
    count = len(Weights._fields)
    weights = Weights(*saved[:count])
    mean, cov, theta, *kept = saved[count + 2 :]
    moments = {power: kept.pop(0) for power in plan.series.powers}
    if theta is None:
        theta = steps.project(x, weights.theta, plan.groups)
    y, *numbers = plan.series.attend(theta, moments)
    inputs = *weights[NORM], *numbers, mean, cov
    matrix, (*d_norm, d_factor, d_constant, d_mean, d_cov) = (
        affine_norm_backward(
            plan, inputs, *steps.affine_residual_backward(d, y)
        )
    )
    # The mean and the covariance of y lead to y again.
    inside = 2 / x.shape[-1] * d_cov
    shift = d_mean / x.shape[-1] - torch.matmul(inside, mean)
    d_y = steps.input_gradient(d, matrix, y, inside, shift)
    d_theta, d_moments, d_coefficients = plan.series.backward(
        theta, moments, d_y, d_factor, d_constant
    )
    d_theta = d_theta.to(weights.theta.dtype).view(len(x), -1, x.shape[-1])
    d_x = d_w_theta = d_phi = d_g = None
    _, needs_x, *needed = ctx.needs_input_grad
    needed = Weights(*needed)
    if needs_x:
        d_x = d.clone(memory_format=torch.preserve_format)  # the residual
        steps.add_product(d_x, weights.theta, d_theta)
    if needed.theta:
        d_w_theta = steps.weight_gradient(d_theta, x)
    # They would add to the peak of phi and g.
    del saved, theta, y, d_y, d_theta
    if plan.series.powers and (needs_x or needed.phi or needed.g):
        source = _moments_source(plan, x, weights)
        d_phi, d_g = source.backward(
            kept, d_moments, d_x, (needed.phi, needed.g)
        )
    return d_x, d_w_theta, *d_norm, d_phi, d_g, d_coefficients


def _moments_source(plan: Plan, x: Tensor, weights: Weights):
    cls = MomentsFromGram if plan.use_gram else MomentsFromMaps
    return cls(plan.groups, plan.series.powers, x, weights.phi, weights.g)
