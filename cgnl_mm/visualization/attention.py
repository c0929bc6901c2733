"""What one position attends to, and how strong each group's attention is."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops.series import split_powers


def has_constant(block: nn.Module) -> bool:
    """Tell whether the series of a CGNL block has a constant term.

    Every position gets this term, and far more of it than of the rest.
    """
    return 0 in split_powers(block.coefficients)


@torch.no_grad()
def attention_map(
    block: nn.Module,
    x: Tensor,
    position: Sequence[int],
) -> Tensor:
    r"""Attention that one position pays to every position.

    The affinity of the generalized operator (paper, Eq. 8) has a
    number for each pair of (channel c, position i) and (channel d, position
    j). In each group, the map of position i is its mean over the channels c
    that look and its sum over the channels d that are looked at::

        A[i](j) = s mean_c Σ_d f(θ[c, i], φ[d, j])
                = s Σₚ cₚ mean_c(θ[c, i]ᵖ) Σ_d φ[d, j]ᵖ

    by the block's own series (paper, Eq. 12), so that no affinity is formed:
    cost is linear in the number of positions.

    For the dot product a group's maps of all positions are one map
    Σ_d φ[d, j] times the number mean_c θ[c, i]: the position decides on
    sign and size alone. That is a property of the block. A series with P
    powers mixes P maps.

    Args:
        block (Module): A CGNL block.
        x (Tensor): Its input (B, C, \*spatial).
        position (Sequence[int]): Index along each spatial axis.

    Returns:
        Tensor: (B, G, \*spatial), float32 or wider, signed.

    Raises:
        ValueError: If the position is outside of the map, or the block has
            no attention (``mode='none'``).
    """
    spatial = tuple(x.shape[2:])
    if len(position) != len(spatial) or not all(
        0 <= index < size for index, size in zip(position, spatial)
    ):
        raise ValueError(
            f'position {tuple(position)} is outside of a map of size {spatial}'
        )
    flat = int(np.ravel_multi_index(position, spatial))
    looking, seen = attention_factors(block, x)
    total = (looking[..., flat, None] * seen).sum(0)
    return total.view(len(x), block.groups, *spatial)


@torch.no_grad()
def attention_factors(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return what all maps of a CGNL block are made of.

    The map of position i is :math:`A_i(j) = \sum_p l_p(i)\, m_p(j)`, where p
    counts the powers of the series that are not zero.

    Args:
        block (Module): A CGNL block.
        x (Tensor): Its input (B, C, \*spatial) with S positions.

    Returns:
        tuple[Tensor, Tensor]: l and m, each (P, B, G, S), float32 or wider.

    Raises:
        ConfigError: A ValueError: the block has no attention
            (``mode='none'``).
    """
    theta, phi = _project(block, x, ('theta', 'phi'))
    scale = block.scale(x[0, 0].numel())
    terms = _terms(block, phi.dtype).items()
    looking = [scale * term * (theta**p).mean(2) for p, term in terms]
    seen = [(phi**p).sum(2) for p, _ in terms]
    return torch.stack(looking), torch.stack(seen)


@torch.no_grad()
def group_factors(block: nn.Module, x: Tensor) -> dict[int, Tensor]:
    r"""Return the factor of each power of theta in a CGNL block's output.

    The factor is aₚ = s cₚ ⟨φᵖ, g⟩ (paper, Eq. 12), so the operator's output
    is Σₚ aₚ θᵖ. For the dot product this one number is all the attention
    there is in a group.

    Args:
        block (Module): A CGNL block.
        x (Tensor): Its input (B, C, \*spatial).

    Returns:
        dict[int, Tensor]: (B, G) by power, float32 or wider; powers whose
        coefficient is the number 0 are absent.

    Raises:
        ConfigError: A ValueError: the block has no attention
            (``mode='none'``).
    """
    phi, g = _project(block, x, ('phi', 'g'))
    scale = block.scale(x[0, 0].numel())
    return {
        power: scale * term * (phi**power * g).sum((2, 3))
        for power, term in _terms(block, phi.dtype).items()
    }


def _project(block: nn.Module, x: Tensor, names: Sequence[str]):
    """Compute maps (B, G, C / G, N) as the block does, widened as there."""
    if block.mode == 'none':
        raise ConfigError(
            "a block with mode='none' (the residual control) has no attention"
        )
    shape = len(x), block.groups, -1, x[0, 0].numel()
    maps = [getattr(block, name)(x).reshape(shape) for name in names]
    wide = torch.promote_types(maps[0].dtype, torch.float32)
    return [t.to(wide) for t in maps]


def _terms(block: nn.Module, dtype: torch.dtype) -> dict[int, float | Tensor]:
    coefficients = block.coefficients
    if isinstance(coefficients, Tensor):
        coefficients = coefficients.to(dtype)
    return split_powers(coefficients)
