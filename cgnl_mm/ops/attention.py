"""The compact generalized non-local operator in O(N), plain PyTorch."""

from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from .fused.torch_steps import wide
from .series import split_powers
from .shapes import split_groups


def cgnl_attention(
    theta: Tensor,
    phi: Tensor,
    g: Tensor,
    coefficients: Union[Sequence[float], Tensor] = (0.0, 1.0),
    groups: int = 8,
    scale: float = 1.0,
    dtype: Optional[torch.dtype] = None,
) -> Tensor:
    r"""Compact generalized non-local operator (paper, Eq. 12).

    .. math::
        y = s \sum_{p=0}^{P} c_p\, \theta^p\, \langle \phi^p, g \rangle

    in each channel group alone, the inner product running over the group's
    C / G channels and all positions. Time and memory are linear in their
    number N. The sums run in float32 for half-precision inputs: a group of a
    video holds 1e5 products, which overflow float16.

    Args:
        theta (Tensor): Queries (B, C, \*spatial), any number of spatial axes.
        phi (Tensor): Keys, same shape.
        g (Tensor): Values, same shape.
        coefficients (Sequence[float] | Tensor): Taylor coefficients
            :math:`c_0, ..., c_P` (see :func:`taylor_coefficients`), or a
            tensor of shape (P + 1) or (G, P + 1), which receives gradients.
            Defaults to (0, 1), the dot product.
        groups (int): Number of channel groups G. Defaults to 8.
        scale (float): Factor s; the author's ``use_scale`` is
            (C / G * S) ** -0.5 for S positions. Defaults to 1.
        dtype (torch.dtype, optional): Type of the result. Defaults to
            theta's; float32 keeps what a half-precision result would
            overflow.

    Returns:
        Tensor: (B, C, \*spatial).

    Raises:
        ValueError: If shapes differ, groups does not divide C, or the
            coefficients have a wrong shape.
        TypeError: If the coefficients are no numbers.
    """
    a, b, values = split_groups(groups, theta=theta, phi=phi, g=g)
    a = wide(a)
    b, values = b.to(a.dtype), values.to(a.dtype)
    if isinstance(coefficients, Tensor):
        coefficients = coefficients.to(a.dtype)
    terms = split_powers(coefficients, groups)

    # c_p <phi^p, g>, (B, G, 1) each; None where c_p is the number 0
    moments = []
    product = values
    for power, coefficient in enumerate(terms):
        if power:
            product = product * b
        if isinstance(coefficient, float) and coefficient == 0:
            moments.append(None)
        else:
            moments.append(scale * coefficient * product.sum(-1, keepdim=True))

    # Horner in theta: one running map instead of P powers.
    y = None
    for moment in reversed(moments):
        if y is not None:
            y = y * a
        if moment is not None:
            y = moment if y is None else y + moment
    if y is None:
        y = torch.zeros_like(a)
    return y.expand_as(a).reshape(theta.shape).to(dtype or theta.dtype)
