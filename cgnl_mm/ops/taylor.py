"""Taylor coefficients: a kernel as one list of numbers (paper, Eq. 12)."""

import math
from typing import Tuple

KERNELS = ('dot_product', 'embedded_gaussian', 'gaussian_rbf')


def check_kernel(kernel: str) -> None:
    """Raise ValueError unless ``kernel`` is one of :data:`KERNELS`."""
    if kernel not in KERNELS:
        raise ValueError(
            f'kernel must be one of {", ".join(KERNELS)}, got {kernel!r}'
        )


def taylor_coefficients(
    kernel: str, order: int = 3, gamma: float = 1e-4
) -> Tuple[float, ...]:
    r"""Coefficients :math:`c_p` of :math:`f(a, b) \approx \sum_p c_p (ab)^p`.

    =================  ==================================================
    dot_product        :math:`c_1 = 1`, all others 0 (exact)
    embedded_gaussian  :math:`1 / p!`, the series of :math:`e^{ab}`
    gaussian_rbf       :math:`e^{-2\gamma} (2\gamma)^p / p!`, the series of
                       :math:`e^{-\gamma (a - b)^2}` with
                       :math:`e^{-\gamma (a^2 + b^2)}` replaced by its value
                       at :math:`a^2 = b^2 = 1`, as in the author's code
    =================  ==================================================

    Args:
        kernel (str): One of :data:`KERNELS`.
        order (int): Highest power P of the series, at least 1.
            Defaults to 3.
        gamma (float): Inverse squared width of the RBF kernel, positive;
            the other kernels ignore it. Defaults to 1e-4.

    Returns:
        tuple[float]: ``order + 1`` coefficients, constant term first.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_kernel(kernel)
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f'order must be an integer >= 1, got {order!r}')
    if kernel == 'dot_product':
        return (0.0, 1.0) + (0.0,) * (order - 1)
    if kernel == 'embedded_gaussian':
        return tuple(1 / math.factorial(p) for p in range(order + 1))
    if not gamma > 0:
        raise ValueError(f'gamma must be positive, got {gamma!r}')
    beta = math.exp(-2 * gamma)
    return tuple(
        beta * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)
    )
