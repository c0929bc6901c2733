"""The folded paths: a block's layers as the arguments of the fused block."""

import math
from typing import Optional

import torch
from torch import Tensor, nn

from ..ops.fused.block import fused_block
from ..ops.fused.plan import Plan, Weights
from ..ops.fused.series import Series
from ..ops.torch_versions import autocast_dtype
from .norm import collect_affine, plan_norm, update_statistics


def run_fused(block: nn.Module, x: Tensor, use_gram: bool) -> Tensor:
    """Compute a block as one function.

    Args:
        block (Module): A CGNL block that can run on this path.
        x (Tensor): (B, C, \\*spatial).
        use_gram (bool): Whether the moments come from the Gram matrix of x.

    Returns:
        Tensor: Same shape and type.
    """
    norm = plan_norm(block.norm, x)
    scale = block.scale(math.prod(x.shape[2:]))
    series = Series(block.coefficients, block.groups, scale)
    recompute = block.recompute or not torch.is_grad_enabled()
    plan = Plan(block.groups, norm, series, use_gram, recompute)
    weights = _collect_weights(block, autocast_dtype(x.device.type))
    with torch.autocast(x.device.type, enabled=False):
        out, mean, var = fused_block(plan, x, weights)
    if norm.over_batch:
        update_statistics(block.norm, mean.flatten(), var.flatten(), x)
    return out


def _collect_weights(
    block: nn.Module, dtype: Optional[torch.dtype]
) -> Weights:
    """Collect what a block has learnt; autocast has a type if it is on."""
    maps = {
        name: layer.weight.flatten(1)
        for name, layer in block.named_children()
        if name != 'norm'
    }
    z = maps.pop('conv_out')
    # The product of W_z has the precision of the sums. Autocast leaves
    # float64 alone.
    if dtype is not None and z.dtype != torch.float64:
        maps = {name: weight.to(dtype) for name, weight in maps.items()}
    weight, bias = collect_affine(block.norm, z)
    is_trained = isinstance(block.coefficients, Tensor)
    return Weights(
        z=z,
        norm_weight=weight,
        norm_bias=bias,
        coefficients=block.coefficients if is_trained else None,
        **maps,
    )
