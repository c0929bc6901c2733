"""Taylor coefficients: a kernel as one list of numbers (paper, Eq. 12)."""

import math
from typing import List, Sequence, Tuple, Union

from torch import Tensor

KERNELS = ('dot_product', 'embedded_gaussian', 'gaussian_rbf')


def check_kernel(kernel: str, gamma: float) -> None:
    """Raise ValueError for an unknown kernel, or an RBF that has no width."""
    if kernel not in KERNELS:
        raise ValueError(
            f'kernel must be one of {", ".join(KERNELS)}, got {kernel!r}'
        )
    if kernel == 'gaussian_rbf' and not gamma > 0:
        raise ValueError(f'gamma must be positive, got {gamma!r}')


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
        order (int): Highest power P of the series, at least 0; at least 1
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
    if isinstance(order, bool) or not isinstance(order, int) or order < least:
        raise ValueError(
            f'order of {kernel} must be an integer >= {least}, got {order!r}'
        )
    if kernel == 'dot_product':
        return (0.0, 1.0) + (0.0,) * (order - 1)
    if kernel == 'embedded_gaussian':
        return tuple(1 / math.factorial(p) for p in range(order + 1))
    beta = math.exp(-2 * gamma)
    return tuple(
        beta * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)
    )


def split_powers(
    coefficients: Union[Sequence[float], Tensor], groups: int
) -> List[Union[float, Tensor]]:
    """Check a list of coefficients and take it apart, one entry a power.

    Args:
        coefficients (Sequence[float] | Tensor): P + 1 numbers, or a tensor of
            shape (P + 1) or (G, P + 1).
        groups (int): Number of channel groups G.

    Returns:
        list[float | Tensor]: Numbers, without zeros at the end; or tensors
        of shape () or (G, 1), which broadcast against (B, G, N).

    Raises:
        ValueError: If the coefficients have a wrong shape.
        TypeError: If they are no numbers.
    """
    if not isinstance(coefficients, Tensor):
        # float() would cut the gradient of a tensor in a list
        if isinstance(coefficients, str) or any(
            isinstance(c, (str, Tensor)) for c in coefficients
        ):
            raise TypeError(
                'coefficients must be numbers, as taylor_coefficients '
                f'returns them, or one tensor, got {coefficients!r}'
            )
        terms = [float(c) for c in coefficients]
        if not terms:
            raise ValueError('coefficients must not be empty, got []')
        while len(terms) > 1 and terms[-1] == 0:
            terms.pop()
        return terms
    shape = tuple(coefficients.shape)
    if len(shape) == 1 and shape[0]:
        return list(coefficients.unbind())
    if len(shape) == 2 and shape[0] == groups and shape[1]:
        return [c.unsqueeze(-1) for c in coefficients.unbind(-1)]
    raise ValueError(
        f'coefficients must have shape (P + 1) or ({groups}, P + 1) for '
        f'{groups} groups, got {shape}'
    )
