"""The exact generalized non-local operator: the truth of every test.

The operator forms the affinity between every position of every channel and
every other, (C / G * S)^2 numbers for each group. It serves small inputs.
"""

from typing import Sequence, Union

import torch
from torch import Tensor

from .attention import split_groups
from .series import check_kernel, split_powers

# 1 GiB of float32. A larger input is meant for cgnl_attention.
MAX_AFFINITY_ELEMENTS = 2**28


def generalized_nonlocal(
    theta: Tensor,
    phi: Tensor,
    g: Tensor,
    kernel: Union[str, Sequence[float], Tensor] = 'embedded_gaussian',
    groups: int = 8,
    gamma: float = 1e-4,
    scale: float = 1.0,
) -> Tensor:
    r"""Apply the exact generalized non-local operator (paper, Eq. 8).

    In each channel group, y = f(vec θ, vec φ) vec g, where f acts on two
    numbers and the affinity is not normalised.

    Args:
        theta (Tensor): Queries (B, C, \*spatial), any number of spatial axes.
        phi (Tensor): Keys of the same shape.
        g (Tensor): Values of the same shape.
        kernel (str | Sequence[float] | Tensor): ``'dot_product'`` (ab),
            ``'embedded_gaussian'`` (exp(ab)) or ``'gaussian_rbf'``
            (exp(−γ(a − b)²), with its full beta). Taylor coefficients as in
            :func:`cgnl_attention` give the literal affinity Σₚ cₚ (ab)ᵖ,
            which that function never forms. Defaults to 'embedded_gaussian'.
        groups (int): Number of channel groups G; 1 is the ungrouped
            operator. Defaults to 8.
        gamma (float): Inverse squared width of the RBF. Defaults to 1e-4.
        scale (float): Factor of the result. Defaults to 1.

    Returns:
        Tensor: (B, C, \*spatial) in the type of theta.

    Raises:
        ValueError: If the shapes differ, ``groups`` does not divide C, the
            kernel is unknown, gamma is not positive, the coefficients have a
            wrong shape, or the affinity exceeds 2^28 elements.
    """
    rows = split_groups(groups, theta=theta, phi=phi, g=g)
    batch, _, size = rows[0].shape
    if batch * groups * size**2 > MAX_AFFINITY_ELEMENTS:
        raise ValueError(
            f'the affinity would hold {batch} x {groups} x {size} x {size} '
            f'elements, more than {MAX_AFFINITY_ELEMENTS}; use '
            'cgnl_attention, which never forms it, or a smaller input'
        )
    a, b, values = rows[0].unsqueeze(-1), rows[1].unsqueeze(-2), rows[2]
    if not isinstance(kernel, str):
        affinity = torch.zeros_like(a * b)
        for power, coefficient in split_powers(kernel).items():
            affinity = affinity + coefficient * (a * b) ** power
    else:
        check_kernel(kernel, gamma)
        if kernel == 'dot_product':
            affinity = a * b
        elif kernel == 'embedded_gaussian':
            affinity = torch.exp(a * b)
        else:
            affinity = torch.exp(-gamma * (a - b) ** 2)
    with torch.autocast(theta.device.type, enabled=False):
        y = scale * (affinity @ values.unsqueeze(-1))
    return y.reshape(theta.shape)
