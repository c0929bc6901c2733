"""The norm after W_z as an affine map, from the moments of the input of W_z.

With u = W_z y for each sample and group, the norm needs the mean and the
variance of u. Both follow from the mean and the covariance of y over the
positions, so u is never formed. All tensors here are small (they have no axis
of positions) and are float32 or float64.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ..attention import to_accumulator
from .plan import Plan, Weights


class AffineNorm:
    """Write norm(factor W_z y) as shift + matrix y.

    Args:
        plan (Plan): The groups, and how the norm takes its statistics.
        weights (Weights): z, norm_weight and norm_bias are read.
        factor (Tensor, optional): (B, G) factor of each group; None is 1.
        mean (Tensor): (B G, k, 1) mean of y over the positions, k = C' / G.
        cov (Tensor): (B G, k, k) covariance of y.

    Attributes:
        matrix (Tensor): (B G, C / G, k).
        shift (Tensor): (B, C).
        m (Tensor): Mean of the norm, (B or 1, N, 1).
        v (Tensor): Biased variance of the norm, (B or 1, N, 1).
    """

    def __init__(
        self,
        plan: Plan,
        weights: Weights,
        factor: Optional[Tensor],
        mean: Tensor,
        cov: Tensor,
    ) -> None:
        norm, groups = plan.norm, plan.groups
        batch, channels = len(mean) // groups, len(weights.z)
        shape = self.shape = batch, norm.groups, channels // norm.groups
        self.norm, self.factor = norm, factor
        self.y_mean = mean.unflatten(0, (batch, groups))
        self.y_cov = cov.unflatten(0, (batch, groups))
        z = to_accumulator(weights.z).unflatten(0, (groups, -1))
        self.z = self.w = z.expand(batch, -1, -1, -1)
        # Where one factor scales all values that are normalised together,
        # the norm cancels it all but completely, and what is left would be
        # rounding noise. The norm then takes the factor apart.
        self.factor_into_norm = (
            factor is not None
            and norm.mean is None
            and (batch == 1 or not norm.over_batch)
            and norm.groups % groups == 0
        )
        self.f = 1.0
        if self.factor_into_norm:
            repeats = norm.groups // groups
            self.f = factor.repeat_interleave(repeats, 1).unsqueeze(-1)
        elif factor is not None:
            self.w = self.z * factor[..., None, None]
        self.dims = (0, 2) if norm.over_batch else (2,)
        if norm.mean is None:
            # Mean and variance of each channel of u, then of each group.
            self.u_mean = torch.matmul(self.w, self.y_mean).reshape(shape)
            u_var = (torch.matmul(self.w, self.y_cov) * self.w).sum(-1)
            u_var = u_var.clamp_min(0).reshape(shape)  # Rounding is not < 0.
            self.m = self.u_mean.mean(self.dims, keepdim=True)
            self.v = (u_var + (self.u_mean - self.m).square()).mean(
                self.dims, keepdim=True
            )
        else:
            self.m = norm.mean.view(1, *shape[1:])
            self.v = norm.var.view(1, *shape[1:])
        self.norm_weight = to_accumulator(weights.norm_weight).view(shape[1:])
        self.r = torch.rsqrt(self.f * self.f * self.v + norm.eps)
        self.alpha = (self.f * self.r * self.norm_weight).expand(shape)
        norm_bias = to_accumulator(weights.norm_bias).view(shape[1:])
        self.shift = (norm_bias - self.alpha * self.m).reshape(batch, channels)
        self.matrix = (self.w * self._rows(self.alpha)).flatten(0, 1)

    def _rows(self, per_channel: Tensor) -> Tensor:
        """View (B, N, C / N) as (B, G, C / G, 1)."""
        return per_channel.reshape(*self.w.shape[:3], 1)

    def backward(
        self, d_matrix: Tensor, d_shift: Tensor
    ) -> Tuple[Optional[Tensor], ...]:
        """Compute the gradients of the arguments.

        Args:
            d_matrix (Tensor): Gradient of ``matrix``.
            d_shift (Tensor): Gradient of ``shift``.

        Returns:
            tuple[Tensor, ...]: Gradients of factor (None for None), mean,
            cov (symmetric), z, norm_weight and norm_bias, in float32 or
            float64.
        """
        w, f = self.w, self.f
        d_matrix, d_shift = d_matrix.view_as(w), d_shift.view(self.shape)
        d_alpha = (d_matrix * w).sum(-1).view(self.shape) - self.m * d_shift
        d_norm_weight = (f * self.r * d_alpha).sum(0).flatten()
        d_norm_bias = d_shift.sum(0).flatten()
        d_w = d_matrix * self._rows(self.alpha)
        d_mean = torch.zeros_like(self.y_mean)
        d_cov, d_factor = torch.zeros_like(self.y_cov), None
        if self.norm.mean is None:
            count = self.shape[2]
            if self.norm.over_batch:
                count *= self.shape[0]
            d_s = (self.norm_weight * d_alpha).sum(self.dims, keepdim=True)
            d_v = -0.5 * (f * self.r) ** 3 * d_s / count
            d_m = -(self.alpha * d_shift).sum(self.dims, keepdim=True) / count
            d_u_mean = self._rows(d_m + 2 * d_v * (self.u_mean - self.m))
            d_u_var = self._rows(d_v.expand(self.shape))
            d_w = d_w + 2 * d_u_var * torch.matmul(w, self.y_cov)
            d_w = d_w + d_u_mean * self.y_mean.mT
            d_mean = torch.matmul(w.mT, d_u_mean)
            d_cov = torch.matmul(w.mT, d_u_var * w)
            if self.factor_into_norm:
                d_factor = d_s * self.norm.eps * self.r**3
                d_factor = d_factor.reshape(*w.shape[:2], -1).sum(-1)
        if self.factor is not None and not self.factor_into_norm:
            d_factor = (d_w * self.z).sum((2, 3))
            d_w = d_w * self.factor[..., None, None]
        d_z = d_w.sum(0).flatten(0, 1)
        d_mean, d_cov = d_mean.flatten(0, 1), d_cov.flatten(0, 1)
        return d_factor, d_mean, d_cov, d_z, d_norm_weight, d_norm_bias
