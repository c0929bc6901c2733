"""The compact generalized non-local operator, linear in the positions."""

import math
from typing import List, Optional, Sequence, Union

import torch
from torch import Tensor

from .series import evaluate, split_powers


def cgnl_attention(
    theta: Tensor,
    phi: Tensor,
    g: Tensor,
    coefficients: Union[Sequence[float], Tensor] = (0.0, 1.0),
    groups: int = 8,
    scale: float = 1.0,
    dtype: Optional[torch.dtype] = None,
) -> Tensor:
    r"""Apply the compact generalized non-local operator (paper, Eq. 12).

    In each channel group alone, the operator is ::

        y = s Σₚ cₚ θᵖ ⟨φᵖ, g⟩,  p = 0, ..., P

    The inner product runs over the C / G channels of the group and over all
    positions. Time and memory are linear in the number of these values. The
    sums run in float32 for half-precision inputs: one group of a video has
    1e5 products, whose sum leaves the range of float16.

    Args:
        theta (Tensor): Queries (B, C, \*spatial), any number of spatial axes.
        phi (Tensor): Keys of the same shape.
        g (Tensor): Values of the same shape.
        coefficients (Sequence[float] | Tensor): Taylor coefficients
            c₀, ..., c_P (see :func:`taylor_coefficients`), or a tensor of
            shape (P + 1), which receives gradients. Defaults to (0, 1), the
            dot product.
        groups (int): Number of channel groups G. Defaults to 8.
        scale (float): Factor s. The author's ``use_scale`` is
            (C / G * S) ** -0.5 for S positions. Defaults to 1.
        dtype (torch.dtype, optional): Type of the result. The type float32
            keeps values that leave the range of a half-precision result.
            Defaults to the type of theta.

    Returns:
        Tensor: (B, C, \*spatial).

    Raises:
        ValueError: If the shapes differ, ``groups`` does not divide C, or
            the coefficients have a wrong shape.
        TypeError: If the coefficients are not numbers.
    """
    rows = split_groups(groups, theta=theta, phi=phi, g=g)
    queries, keys, product = (to_accumulator(row) for row in rows)
    if isinstance(coefficients, Tensor):
        coefficients = coefficients.to(queries.dtype)
    terms = split_powers(coefficients)
    factors = {}
    for power in range(max(terms, default=0) + 1):
        if power:
            product = product * keys
        if power in terms:
            moment = product.sum(-1, keepdim=True)
            factors[power] = scale * terms[power] * moment
    y = evaluate(factors, queries)
    return y.reshape(theta.shape).to(dtype or theta.dtype)


def to_accumulator(x: Tensor) -> Tensor:
    """Convert a tensor to the type of sums: float32, or float64 if it is."""
    # The compiler of torch 2.1 refuses promote_types.
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def split_groups(groups: int, **maps: Tensor) -> List[Tensor]:
    r"""View maps (B, C, \*spatial) as (B, G, N): one row for each group.

    Args:
        groups (int): Number of channel groups G.
        **maps (Tensor): Maps of one shape, by the names for an error.

    Returns:
        list[Tensor]: The maps in the order given, N = C / G * S.

    Raises:
        ValueError: If the shapes differ or have no channel axis, or if G
            does not divide C.
    """
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    shape = next(iter(shapes.values()))
    # Sizes are tensors under torch.jit.trace, so a set would not do.
    if len(shape) < 2 or any(other != shape for other in shapes.values()):
        found = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
        raise ValueError(
            f'the maps must have one shape (B, C, *spatial), got {found}'
        )
    is_whole = isinstance(groups, int) and not isinstance(groups, bool)
    if not is_whole or groups < 1 or shape[1] % groups:
        raise ValueError(
            f'groups={groups!r} is not an integer >= 1 that divides the '
            f'{shape[1]} channels'
        )
    size = math.prod(shape[2:], start=shape[1] // groups)
    return [x.reshape(shape[0], groups, size) for x in maps.values()]
