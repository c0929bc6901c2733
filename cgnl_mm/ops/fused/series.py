"""The attention of a folded block, from the sums <phi^p, g> on."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from . import torch_steps as passes


class Attention:
    """y = s sum_p c_p <phi^p, g> theta^p per sample and group.

    For the first power alone (the dot product) y stays theta, and its factor
    goes into W_z.

    Args:
        terms (list[float | Tensor]): c_p, as ``split_powers`` returns them.
        groups (int): Channel groups G.
        scale (float): The factor s.
    """

    def __init__(self, terms: list, groups: int, scale: float) -> None:
        self.terms = {
            power: scale * term
            for power, term in enumerate(terms)
            if isinstance(term, Tensor) or term != 0
        }
        self.scale, self.groups = scale, groups
        self.powers = list(self.terms)
        self.is_dot = self.powers == [1]

    def _moments(self, sums: List[Tensor]) -> Dict[int, Tensor]:
        """Factor of each theta^p, (B G, 1, 1)."""
        moments = {}
        for (power, term), value in zip(self.terms.items(), sums):
            value = value.view(-1, self.groups)
            if isinstance(term, Tensor):
                term = term.flatten()
            moments[power] = (term * value).view(-1, 1, 1)
        return moments

    def attend(
        self, theta: Tensor, sums: List[Tensor]
    ) -> Tuple[Tensor, Optional[Tensor]]:
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

    def backward(
        self,
        theta: Tensor,
        sums: List[Tensor],
        d_y: Tensor,
        d_factor: Optional[Tensor],
        coefficients: Optional[Tensor],
    ) -> Tuple[Tensor, List[Tensor], Optional[Tensor]]:
        """Gradients of theta, of each sum (B G,) and of the coefficients.

        Args:
            theta (Tensor): (B G, k, S).
            sums (list[Tensor]): (B G,) for each power.
            d_y (Tensor): Gradient of y.
            d_factor (Tensor, optional): Gradient of the factor.
            coefficients (Tensor, optional): If they are trained.
        """
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
        d_sums = [
            (
                d_moments[power].view(-1, self.groups)
                * (term.flatten() if isinstance(term, Tensor) else term)
            ).flatten()
            for power, term in self.terms.items()
        ]
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
        return d_theta, d_sums, d_coefficients
