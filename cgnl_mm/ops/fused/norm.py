"""The norm after W_z as an affine map, from the moments of the input of W_z.

With u = W_z y for each sample and group, the norm needs the mean and the
variance of u. Both follow from the mean and the covariance of y over the
positions, so u is never formed. All tensors here are small: they have no axis
of positions.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .plan import Plan


def affine_norm(
    plan: Plan,
    z: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    factor: Optional[Tensor],
    constant: Optional[Tensor],
    mean: Tensor,
    cov: Tensor,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write norm(W_z (factor y + constant)) as shift + matrix y.

    The numbers of a channel are float64: the norm cancels a factor and a
    constant all but completely, and what is left of their gradients would be
    rounding noise.

    Args:
        plan (Plan): The groups, and how the norm takes its statistics.
        z (Tensor): (C, k) weight of W_z, k = C' / G.
        norm_weight (Tensor): (C,) weight of the norm.
        norm_bias (Tensor): (C,) bias of the norm.
        factor (Tensor, optional): (B, G) factor of each group; None is 1.
        constant (Tensor, optional): (B, G) constant of each group; None is 0.
        mean (Tensor): (B G, k, 1) mean of y over the positions.
        cov (Tensor): (B G, k, k) covariance of y.

    Returns:
        tuple[Tensor, ...]: Matrix (B G, C / G, k) and shift (B, C); mean and
        biased variance of the norm, (B or 1, N, 1); in the type of the mean.
    """
    norm, groups = plan.norm, plan.groups
    batch, dtype = len(mean) // groups, mean.dtype
    shape = batch, norm.groups, len(z) // norm.groups
    # The axes are (B, G, C / G, k) here, and (B, N, C / N) for the norm.
    z = z.to(dtype).unflatten(0, (groups, -1))
    mean, cov = (t.unflatten(0, (batch, groups)) for t in (mean, cov))
    inside = 0.0  # what the constant adds to W_z y
    if constant is not None:
        inside = constant.double().unsqueeze(-1) * z.double().sum(-1)
        inside = inside.reshape(shape)
    if factor is None:
        factor = 1.0
    else:
        factor = factor.double().repeat_interleave(z.shape[1], 1).view(shape)
    if norm.mean is None:
        # Mean and variance of each channel of u, then of each group.
        u_mean = torch.matmul(z, mean).double().reshape(shape)
        u_mean = factor * u_mean + inside
        u_var = (torch.matmul(z, cov) * z).sum(-1).double().reshape(shape)
        u_var = factor**2 * u_var.clamp_min(0)  # Rounding is not < 0.
        dims = (0, 2) if norm.over_batch else (2,)
        m = u_mean.mean(dims, keepdim=True)
        v = (u_var + (u_mean - m).square()).mean(dims, keepdim=True)
    else:
        m, v = (t.double().view(1, *shape[1:]) for t in (norm.mean, norm.var))
    alpha = torch.rsqrt(v + norm.eps) * norm_weight.double().view(shape[1:])
    shift = norm_bias.double().view(shape[1:]) + alpha * (inside - m)
    scale, shift = (t.expand(shape).to(dtype) for t in (factor * alpha, shift))
    matrix = (z * scale.reshape(batch, *z.shape[:2], 1)).flatten(0, 1)
    return matrix, shift.reshape(batch, -1), m.to(dtype), v.to(dtype)


def affine_norm_backward(
    plan: Plan,
    inputs: Tuple[Optional[Tensor], ...],
    d_matrix: Tensor,
    d_shift: Tensor,
) -> Tuple[Tensor, List[Optional[Tensor]]]:
    """Return the matrix of :func:`affine_norm`, and the gradients.

    Args:
        plan (Plan): The groups, and how the norm takes its statistics.
        inputs (tuple[Tensor | None, ...]): The other arguments.
        d_matrix (Tensor): Gradient of the matrix.
        d_shift (Tensor): Gradient of the shift.

    Returns:
        tuple[Tensor, list]: The matrix; a gradient for each of the inputs,
        None for None.
    """
    inputs = [t if t is None else t.detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        matrix, shift, *_ = affine_norm(plan, *inputs)
    leaves = [t for t in inputs if t is not None]
    found = torch.autograd.grad(
        (matrix, shift), leaves, (d_matrix, d_shift), materialize_grads=True
    )
    found = iter(found)
    gradients = [t if t is None else next(found) for t in inputs]
    return matrix.detach(), gradients
