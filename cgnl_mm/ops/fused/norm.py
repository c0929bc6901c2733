"""The norm after W_z as an affine map, from the moments of W_z's input.

With u = W y per sample and group, all that a norm needs of u follows from the
mean and the covariance of y over the positions: u itself is never formed.
Everything here is small (no axis of positions) and in float32 or wider.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor

from .torch_steps import wide


@dataclass(frozen=True)
class FoldedNorm:
    """A norm that scales and shifts each channel.

    Attributes:
        groups (int): Channel groups N that share their statistics: G for
            GroupNorm(G), C for instance and batch norm.
        eps (float): Added to the variance.
        over_batch (bool): Whether the statistics are of all samples together
            (batch norm in training).
        mean (Tensor, optional): (C,) given mean: the statistics are not
            computed (batch norm in evaluation).
        var (Tensor, optional): (C,) given variance.
    """

    groups: int
    eps: float = 1e-5
    over_batch: bool = False
    mean: Optional[Tensor] = None
    var: Optional[Tensor] = None


class Fold:
    """out = x + shift + matrix y, equal to x + norm(factor W_z y).

    Args:
        factor (Tensor, optional): (B, G) attention of each group; None is 1.
        mean (Tensor): (B G, k, 1) mean of y over the positions, k = C' / G.
        cov (Tensor): (B G, k, k) covariance of y.
        z (Tensor): (C, k) weight of W_z.
        weight (Tensor): (C,) weight of the norm.
        bias (Tensor): (C,) bias of the norm.
        norm (FoldedNorm): How the statistics are taken.
        groups (int): Channel groups G.

    Attributes:
        matrix (Tensor): (B G, C / G, k).
        shift (Tensor): (B, C).
        m (Tensor): Mean of the norm, (B or 1, N, 1).
        v (Tensor): Its biased variance.
    """

    def __init__(
        self,
        factor: Optional[Tensor],
        mean: Tensor,
        cov: Tensor,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: FoldedNorm,
        groups: int,
    ) -> None:
        batch, channels = len(mean) // groups, len(z)
        self.mean = mean = mean.view(batch, groups, *mean.shape[1:])
        self.cov = cov = cov.view(batch, groups, *cov.shape[1:])
        matrix = wide(z).view(groups, -1, z.shape[1])
        matrix = matrix.expand(batch, -1, -1, -1)
        weight, bias = wide(weight), wide(bias)
        self.norm, self.plain, self.factor = norm, matrix, factor
        # Where one number scales all that is normalised together, the norm
        # all but removes it again; what is left would cancel in float32.
        self.is_apart = (
            factor is not None
            and norm.mean is None
            and not norm.over_batch
            and norm.groups % groups == 0
        )
        f = 1.0
        if self.is_apart:
            repeats = norm.groups // groups
            f = factor.repeat_interleave(repeats, 1).unsqueeze(-1)
        elif factor is not None:
            matrix = matrix * factor[..., None, None]
        self.w, self.f = matrix, f
        self.per_group = (batch, norm.groups, channels // norm.groups)
        self.gamma = weight.view(self.per_group[1:])
        self.dims = (0, 2) if norm.over_batch else (2,)
        if norm.mean is None:
            # mean and variance of each channel of W y, then of each group
            self.um = torch.matmul(matrix, mean).reshape(self.per_group)
            uv = (torch.matmul(matrix, cov) * matrix).sum(-1)
            # no less than zero, whatever was rounded
            uv = uv.clamp_min(0)
            self.m = self.um.mean(self.dims, keepdim=True)
            self.v = (
                uv.reshape(self.per_group) + (self.um - self.m).square()
            ).mean(self.dims, keepdim=True)
        else:
            self.m = norm.mean.view(1, *self.per_group[1:])
            self.v = norm.var.view(1, *self.per_group[1:])
        self.r = torch.rsqrt(f * f * self.v + norm.eps)
        self.alpha = (f * self.r * self.gamma).expand(self.per_group)
        shift = bias.view(self.per_group[1:]) - self.alpha * self.m
        self.shift = shift.reshape(batch, channels)
        scaled = matrix * self.alpha.reshape(*matrix.shape[:3], 1)
        self.matrix = scaled.flatten(0, 1)

    def backward(
        self, d_matrix: Tensor, d_shift: Tensor
    ) -> Tuple[Optional[Tensor], ...]:
        """Compute the gradients of the arguments.

        Args:
            d_matrix (Tensor): Gradient of ``matrix``.
            d_shift (Tensor): Gradient of ``shift``.

        Returns:
            tuple[Tensor, ...]: Of factor (None for None), mean, cov
            (symmetric), z, weight and bias, in float32 or wider.
        """
        w, shape, f = self.w, self.per_group, self.f
        d_scaled = d_matrix.view_as(w)
        d_shift = d_shift.view(shape)
        q = (d_scaled * w).sum(-1).view(shape) - self.m * d_shift
        d_weight = (f * self.r * q).sum(0).flatten()
        d_bias = d_shift.sum(0).flatten()
        d_w = d_scaled * self.alpha.reshape(*w.shape[:3], 1)
        d_mean, d_cov = torch.zeros_like(self.mean), torch.zeros_like(self.cov)
        d_factor = None
        if self.norm.mean is None:
            count = shape[2] * (shape[0] if self.norm.over_batch else 1)
            d_s = (self.gamma * q).sum(self.dims, keepdim=True)
            d_v = -0.5 * (f * self.r) ** 3 * d_s / count
            d_m = -(self.alpha * d_shift).sum(self.dims, keepdim=True) / count
            d_um = d_m + 2 * d_v * (self.um - self.m)
            d_um = d_um.reshape(*w.shape[:3], 1)
            d_uv = d_v.expand(shape).reshape(*w.shape[:3], 1)
            d_w = d_w + 2 * d_uv * torch.matmul(w, self.cov)
            d_w = d_w + d_um * self.mean.mT
            d_mean = torch.matmul(w.mT, d_um)
            d_cov = torch.matmul(w.mT, d_uv * w)
            if self.is_apart:
                d_factor = d_s * self.norm.eps * self.r**3
                d_factor = d_factor.reshape(*w.shape[:2], -1).sum(-1)
        if self.factor is not None and not self.is_apart:
            d_factor = (d_w * self.plain).sum((2, 3))
            d_w = d_w * self.factor[..., None, None]
        d_mean, d_cov = d_mean.flatten(0, 1), d_cov.flatten(0, 1)
        d_z = d_w.sum(0).flatten(0, 1)
        return d_factor, d_mean, d_cov, d_z, d_weight, d_bias
