"""Gradients that refuse to be differentiated again."""

from typing import Optional, Tuple

import torch
from torch import Tensor


def only_first(
    *gradients: Optional[Tensor],
) -> Tuple[Optional[Tensor], ...]:
    """Return gradients whose derivative is an error."""
    if not torch.is_grad_enabled():
        return gradients
    # once_differentiable lets gradients pass as constants if d is.
    return _FirstDerivative.apply(
        *(g if g is None else g.detach().requires_grad_() for g in gradients)
    )


class _FirstDerivative(torch.autograd.Function):
    """The identity, which refuses a derivative."""

    @staticmethod
    def forward(ctx, *gradients):
        return gradients

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            'the folded paths of CGNL, and all in half precision, have no '
            "second derivative; build the block with backend='reference', "
            'and run it in float32'
        )
