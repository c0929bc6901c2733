"""The one rule by which a computation counts as exact enough."""

from typing import Dict, Mapping

import torch
from torch import Tensor


def output_and_gradients(
    out: Tensor, d: Tensor, leaves: Mapping[str, Tensor]
) -> Dict[str, Tensor]:
    """Return an output and the gradient of each leaf, by name.

    Args:
        out (Tensor): The output; its name is 'out'.
        d (Tensor): Gradient of the output.
        leaves (Mapping[str, Tensor]): Tensors that need a gradient. One that
            the output does not depend on has the gradient zero.
    """
    gradients = torch.autograd.grad(
        out, list(leaves.values()), d, materialize_grads=True
    )
    return {'out': out.detach(), **dict(zip(leaves, gradients))}


def errors(
    found: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    order: float = float('inf'),
) -> Dict[str, float]:
    """Return the error of each tensor, relative to the norm of its truth.

    Args:
        found (Mapping[str, Tensor]): Tensors in any type, by name.
        truth (Mapping[str, Tensor]): The same tensors in float64.
        order (float): Order of the vector norm. Defaults to infinity, the
            largest entry.

    Returns:
        dict[str, float]: Errors by name. The error of a truth that is zero
        is absolute.
    """

    def norm(x: Tensor) -> float:
        return torch.linalg.vector_norm(x, order).item()

    return {
        name: norm(found[name].cpu().double() - value) / (norm(value) or 1.0)
        for name, value in truth.items()
    }


def assert_as_exact(
    found: Mapping[str, Tensor],
    floor: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    times: float = 2.0,
    slack: float = 0.0,
    order: float = float('inf'),
) -> None:
    """Assert that each tensor has at most twice the error of the floor.

    Args:
        found (Mapping[str, Tensor]): Tensors to judge, by name.
        floor (Mapping[str, Tensor]): The same tensors by a computation whose
            rounding is inevitable.
        truth (Mapping[str, Tensor]): The same tensors in float64. Its names
            are those that are judged.
        times (float): Allowed error, in errors of the floor. Defaults to 2.
        slack (float): Relative error that is always allowed. Defaults to 0.
        order (float): Order of the vector norm. Defaults to infinity.

    Raises:
        AssertionError: If an error is larger or not a number; the message
            names the tensor.
    """
    ours, theirs = errors(found, truth, order), errors(floor, truth, order)
    for name, error in ours.items():
        allowed = times * theirs[name] + slack
        assert error <= allowed, f'{name}: error {error}, allowed {allowed}'
