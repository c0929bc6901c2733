"""The series y of the fused block, and its gradients, from the moments."""

from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..powers import polynomial_gradient
from ..series import evaluate, split_powers

Moments = Dict[int, Tensor]  # by the power p


class Series:
    """y = s sum_p c_p <phi^p, g> theta^p for each sample and group.

    The dot product has one factor for each sample and group. Its y stays
    theta, and the factor goes into W_z. The constant term of a series may be
    a million times larger than the others, so it stays a number, too.

    Args:
        coefficients (Sequence[float] | Tensor): The numbers c_p, as in
            :func:`cgnl_attention`; () is no attention: y = theta.
        groups (int): Number of channel groups G.
        scale (float): The factor s.

    Attributes:
        powers (list[int]): Powers p whose c_p is not the number 0, ascending.
    """

    def __init__(
        self,
        coefficients: Union[Sequence[float], Tensor],
        groups: int,
        scale: float = 1.0,
    ) -> None:
        self.is_trained = isinstance(coefficients, Tensor)
        if self.is_trained:
            coefficients = coefficients.detach()
        self.groups, self.scale = groups, scale
        self.is_identity = not len(coefficients)
        split = {} if self.is_identity else split_powers(coefficients)
        self.terms = {power: scale * c for power, c in split.items()}
        self.powers = list(self.terms)
        self.is_dot = self.powers == [1]

    def attend(
        self, theta: Tensor, moments: Moments
    ) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        """Return y (B G, k, S), and the factor and constant that it lacks.

        The last two are (B, G), or None.

        Args:
            theta (Tensor): (B G, k, S).
            moments (dict[int, Tensor]): <phi^p, g> (B G,) by power p.
        """
        if self.is_identity:
            return theta, None, None
        factors = self._factors(moments)
        if self.is_dot:
            return theta, factors[1].view(-1, self.groups), None
        constant = factors.pop(0, None)
        if constant is not None:
            constant = constant.view(-1, self.groups)
        return evaluate(factors, theta), None, constant

    def _factors(self, moments: Moments) -> Moments:
        """Return the factor (B G, 1, 1) of each power of theta."""
        return {
            power: (term * moments[power]).view(-1, 1, 1)
            for power, term in self.terms.items()
        }

    def backward(
        self,
        theta: Tensor,
        moments: Moments,
        d_y: Tensor,
        d_factor: Optional[Tensor],
        d_constant: Optional[Tensor],
    ) -> Tuple[Tensor, Moments, Optional[Tensor]]:
        """Return the gradients of theta, the moments and the coefficients.

        The last is None for coefficients that are not trained.

        Args:
            theta (Tensor): (B G, k, S).
            moments (dict[int, Tensor]): <phi^p, g> (B G,) by power p.
            d_y (Tensor): Gradient of y.
            d_factor (Tensor, optional): Gradient of the factor, if any.
            d_constant (Tensor, optional): Gradient of the constant, if any.
        """
        if self.is_identity:
            return d_y, {}, None
        if self.is_dot:
            d_theta, d_factors = d_y, {1: d_factor.flatten()}
        else:
            factors = self._factors(moments)
            factors.pop(0, None)
            d_theta, d_factors = polynomial_gradient(factors, theta, d_y)
            d_factors = {p: d.flatten() for p, d in d_factors.items()}
            if d_constant is not None:
                d_factors[0] = d_constant.flatten()
        d_moments = {p: d_factors[p] * t for p, t in self.terms.items()}
        if not self.is_trained:
            return d_theta, d_moments, None
        d_terms = torch.stack(
            [self.scale * (d_factors[p] * moments[p]) for p in self.powers], -1
        )
        return d_theta, d_moments, d_terms.sum(0)
