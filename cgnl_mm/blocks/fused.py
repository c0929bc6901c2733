"""A block's layers as the arguments of the folded path."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops.fused.block import folded_block
from ..ops.fused.norm import FoldedNorm
from ..ops.fused.torch_steps import wide
from ..ops.torch_versions import autocast_dtype

LAYERS = ('theta', 'phi', 'g', 'conv_out')
# a subclass with a forward of its own computes something else
NORMS = (
    nn.Identity.forward,
    nn.GroupNorm.forward,
    _BatchNorm.forward,
    _InstanceNorm.forward,
    nn.SyncBatchNorm.forward,
)


def obstacle(block: nn.Module, x: Tensor, path: str) -> Optional[str]:
    """Say why a block cannot take a folded path; None if it can.

    Args:
        block (Module): A CGNL block.
        x (Tensor): Its input.
        path (str): 'folded' or 'gram'.
    """
    if path == 'gram' and block.mode != 'dot_product':
        return f'the Gram matrix knows no {block.mode!r}'
    for name in (*LAYERS, 'norm'):
        layer = getattr(block, name, None)
        if layer is None:
            continue
        if (
            layer._forward_hooks
            or layer._forward_pre_hooks
            or layer._backward_hooks
            or layer._backward_pre_hooks
        ):
            return 'a layer inside the block has a hook'
        if 'forward' in vars(layer):
            return 'a layer inside the block has a forward of its own'
        if name != 'norm':
            groups = block.groups if name == 'conv_out' else 1
            reason = _conv_obstacle(layer, block.conv_type, groups)
            if reason:
                return f'{name} is {reason}'
    norm = block.norm
    if isinstance(norm, nn.SyncBatchNorm) and norm.training:
        return 'SyncBN joins statistics of several processes'
    if isinstance(norm, _InstanceNorm) and norm.track_running_stats:
        return 'instance norm with running statistics'
    if type(norm).forward not in NORMS:
        return f'the norm {type(norm).__name__}'
    weight = block.theta.weight
    if x.dtype != weight.dtype and autocast_dtype(x.device.type) is None:
        return f'an input of {x.dtype} and weights of {weight.dtype}'
    if x.is_inference() and torch.is_grad_enabled():
        return 'autograd keeps no tensor of inference mode'
    return None


def _conv_obstacle(layer, conv_type: type, groups: int) -> Optional[str]:
    """Say how a layer is not the 1x1 convolution that it was built as."""
    if type(layer) is not conv_type:
        return f'{type(layer).__name__} in place of a convolution'
    if layer.bias is not None:
        return 'a convolution with a bias (fuse_conv_bn adds one)'
    if {*layer.kernel_size, *layer.stride} != {1}:
        return 'no 1x1 convolution'
    if layer.groups != groups:
        return f'a convolution in {layer.groups} groups, not {groups}'
    return None


def run_folded(
    block: nn.Module, x: Tensor, scale: float, path: str = 'folded'
) -> Tensor:
    """Compute a block on the folded path.

    Args:
        block (Module): A CGNL block without an :func:`obstacle`.
        x (Tensor): (B, C, \\*spatial).
        scale (float): Factor of the inner products.
        path (str): 'folded' or 'gram'. Defaults to 'folded'.

    Returns:
        Tensor: Same shape and dtype.
    """
    device = x.device.type
    layers = [getattr(block, name, None) for name in LAYERS]
    weights = [None if a is None else a.weight.flatten(1) for a in layers]
    dtype = autocast_dtype(device)
    if dtype is not None:
        # not W_z's: its product is of the precision of the sums
        weights[:3] = [
            # autocast leaves float64 alone
            w if w is None or w.dtype == torch.float64 else w.to(dtype)
            for w in weights[:3]
        ]
    norm = _folded_norm(block.norm, x)
    with torch.autocast(device, enabled=False):
        out, mean, var = folded_block(
            x,
            *weights,
            getattr(block.norm, 'weight', None),
            getattr(block.norm, 'bias', None),
            norm,
            block.coefficients,
            block.groups,
            scale,
            block.recompute,
            path == 'gram',
        )
    if isinstance(block.norm, _BatchNorm) and norm.over_batch:
        _update(block.norm, mean.flatten(), var.flatten(), x)
    return out


def _folded_norm(norm: nn.Module, x: Tensor) -> Optional[FoldedNorm]:
    channels = x.shape[1]
    if isinstance(norm, nn.Identity):
        return None
    if isinstance(norm, nn.GroupNorm):
        _require_several(x.numel() // norm.num_groups, norm, x)
        return FoldedNorm(norm.num_groups, norm.eps)
    if isinstance(norm, _InstanceNorm):
        _require_several(x.shape[2:].numel(), norm, x)
        return FoldedNorm(channels, norm.eps)
    if norm.training or norm.running_mean is None:
        _require_several(x.numel() // channels, norm, x)
        return FoldedNorm(channels, norm.eps, over_batch=True)
    mean, var = wide(norm.running_mean), wide(norm.running_var)
    return FoldedNorm(channels, norm.eps, mean=mean, var=var)


def _require_several(values: int, norm: nn.Module, x: Tensor) -> None:
    if values == 1:  # as the layer itself: there is no variance
        raise ValueError(
            f'{type(norm).__name__} of the block needs more than 1 value for '
            f'its statistics, got an input of shape {tuple(x.shape)}'
        )


@torch.no_grad()
def _update(norm: _BatchNorm, mean: Tensor, var: Tensor, x: Tensor) -> None:
    """Update running statistics as nn.BatchNorm does."""
    if not (norm.training and norm.track_running_stats):
        return
    if norm.running_mean is None:
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
