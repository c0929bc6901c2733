"""The folded paths: a block's layers as the arguments of the fused block."""

import math
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops.attention import to_accumulator
from ..ops.fused.block import fused_block
from ..ops.fused.plan import Norm, Plan, Weights
from ..ops.fused.series import Series
from ..ops.torch_versions import autocast_dtype


def run_fused(block: nn.Module, x: Tensor, use_gram: bool) -> Tensor:
    """Compute a block as one function.

    Args:
        block (Module): A CGNL block that can run on this path.
        x (Tensor): (B, C, \\*spatial).
        use_gram (bool): Whether the moments come from the Gram matrix of x.

    Returns:
        Tensor: Same shape and type.
    """
    norm = _plan_norm(block.norm, x)
    scale = block.scale(math.prod(x.shape[2:]))
    series = Series(block.coefficients, block.groups, scale)
    recompute = block.recompute or not torch.is_grad_enabled()
    plan = Plan(block.groups, norm, series, use_gram, recompute)
    weights = _collect_weights(block, autocast_dtype(x.device.type))
    with torch.autocast(x.device.type, enabled=False):
        out, mean, var = fused_block(plan, x, weights)
    if norm.over_batch:
        _update_statistics(block.norm, mean.flatten(), var.flatten(), x)
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
    weight = getattr(block.norm, 'weight', None)
    bias = getattr(block.norm, 'bias', None)
    is_trained = isinstance(block.coefficients, Tensor)
    return Weights(
        z=z,
        norm_weight=z.new_ones(len(z)) if weight is None else weight,
        norm_bias=z.new_zeros(len(z)) if bias is None else bias,
        coefficients=block.coefficients if is_trained else None,
        **maps,
    )


def _plan_norm(norm: nn.Module, x: Tensor) -> Norm:
    """Describe how a norm takes its statistics of an input of this shape."""
    channels = x.shape[1]
    if isinstance(norm, nn.Identity):  # a scale of one
        mean = torch.zeros(channels, device=x.device)
        return Norm(channels, 0.0, mean=mean, var=mean + 1)
    is_batch_norm = isinstance(norm, _BatchNorm)
    if is_batch_norm and not norm.training and norm.running_mean is not None:
        mean = to_accumulator(norm.running_mean)
        var = to_accumulator(norm.running_var)
        return Norm(channels, norm.eps, mean=mean, var=var)
    groups = getattr(norm, 'num_groups', channels)
    samples = len(x) if isinstance(norm, _InstanceNorm) else 1
    if x.numel() == groups * samples:
        # The layer itself refuses this input, too.
        raise ValueError(
            f'{type(norm).__name__} of the block needs more than 1 value for '
            f'its statistics, got an input of shape {tuple(x.shape)}'
        )
    return Norm(groups, norm.eps, over_batch=is_batch_norm)


@torch.no_grad()
def _update_statistics(
    norm: _BatchNorm, mean: Tensor, var: Tensor, x: Tensor
) -> None:
    """Update running statistics as nn.BatchNorm does."""
    tracks = norm.training and norm.track_running_stats
    if not tracks or norm.running_mean is None:
        return
    momentum, batches = norm.momentum, norm.num_batches_tracked
    if batches is not None:
        batches.add_(1)
    if momentum is None:  # cumulative average
        momentum = 0.0 if batches is None else 1 / batches.item()
    count = x.numel() // x.shape[1]
    unbiased = var * (count / (count - 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)
