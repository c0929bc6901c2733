"""A kernel as a Taylor series: one list of numbers (paper, Eq. 12)."""

import math
from typing import Dict, Sequence, Tuple, Union

import torch
from torch import Tensor

from .narrow import multiply_add

KERNELS = ('dot_product', 'embedded_gaussian', 'gaussian_rbf')
MAX_ORDER = 100  # 1 / 100! is below 1e-157


def check_kernel(kernel: str, gamma: float) -> None:
    """Raise ValueError for an unknown kernel, or for an RBF without a width.

    Args:
        kernel (str): One of :data:`KERNELS`.
        gamma (float): Inverse squared width of the RBF kernel.
    """
    if kernel not in KERNELS:
        raise ValueError(
            f'kernel must be one of {", ".join(KERNELS)}, got {kernel!r}'
        )
    if kernel == 'gaussian_rbf' and not 0 < gamma < math.inf:
        raise ValueError(f'gamma must be positive and finite, got {gamma!r}')


def taylor_coefficients(
    kernel: str, order: int = 3, gamma: float = 1e-4
) -> Tuple[float, ...]:
    """Return the coefficients cₚ of a kernel f(a, b) ≈ Σₚ cₚ (ab)ᵖ.

    =================  ==================================================
    dot_product        c₁ = 1, all others 0 (exact)
    embedded_gaussian  1 / p!, the series of exp(ab)
    gaussian_rbf       exp(−2γ) (2γ)ᵖ / p!, the series of exp(−γ(a − b)²)
                       with exp(−γ(a² + b²)) replaced by its value at
                       a² = b² = 1, as in the author's code
    =================  ==================================================

    Args:
        kernel (str): One of :data:`KERNELS`.
        order (int): Highest power P of the series, from 0 to 100; at least 1
            for the dot product. Defaults to 3.
        gamma (float): Inverse squared width of the RBF kernel, positive;
            the other kernels ignore it. Defaults to 1e-4.

    Returns:
        tuple[float]: ``order + 1`` coefficients, constant term first.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_kernel(kernel, gamma)
    least = 1 if kernel == 'dot_product' else 0
    is_whole = isinstance(order, int) and not isinstance(order, bool)
    if not is_whole or not least <= order <= MAX_ORDER:
        raise ValueError(
            f'the order of {kernel} must be an integer from {least} to '
            f'{MAX_ORDER}, got {order!r}'
        )
    if kernel == 'dot_product':
        return (0.0, 1.0) + (0.0,) * (order - 1)
    beta, width = 1.0, 1.0
    if kernel == 'gaussian_rbf':
        beta, width = math.exp(-2 * gamma), 2 * gamma
    return tuple(beta * width**p / math.factorial(p) for p in range(order + 1))


def split_powers(
    coefficients: Union[Sequence[float], Tensor],
) -> Dict[int, Union[float, Tensor]]:
    """Take a list of coefficients apart, after a check of its shape.

    Args:
        coefficients (Sequence[float] | Tensor): P + 1 numbers, or a tensor of
            shape (P + 1).

    Returns:
        dict[int, float | Tensor]: Coefficients by their powers, ascending:
        the numbers that are not zero; or tensors of shape ().

    Raises:
        ValueError: If the coefficients have a wrong shape.
        TypeError: If the coefficients are not numbers.
    """
    if isinstance(coefficients, Tensor):
        shape = tuple(coefficients.shape)
        if len(shape) == 1 and shape[0]:
            return dict(enumerate(coefficients.unbind()))
        raise ValueError(f'coefficients must have shape (P + 1), got {shape}')
    if isinstance(coefficients, str) or any(
        isinstance(c, (str, Tensor)) for c in coefficients
    ):
        # float() would cut the gradient of a tensor in a list.
        raise TypeError(
            'coefficients must be numbers, as taylor_coefficients returns '
            f'them, or one tensor, got {coefficients!r}'
        )
    if not len(coefficients):
        raise ValueError('coefficients must not be empty, got []')
    return {p: float(c) for p, c in enumerate(coefficients) if c != 0}


def evaluate(factors: Dict[int, Tensor], x: Tensor) -> Tensor:
    """Return the polynomial sum of ``factors[p] * x**p``, like x.

    Args:
        factors (dict[int, Tensor]): Factors that broadcast against x.
        x (Tensor): The argument of the polynomial.
    """
    # Horner's rule needs one running map in place of the powers of x.
    y = None
    for power in range(max(factors, default=0), -1, -1):
        if y is None:
            y = factors.get(power)
        else:
            y = multiply_add(y, x, factors.get(power))
    return torch.zeros_like(x) if y is None else y.expand_as(x)
