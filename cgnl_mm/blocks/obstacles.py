"""Why a fused path cannot compute a block."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops.narrow import HALF
from ..ops.torch_versions import autocast_dtype

# A subclass with a forward method of its own computes something else.
NORMS = nn.GroupNorm, _BatchNorm, _InstanceNorm, nn.SyncBatchNorm, nn.Identity
NORM_FORWARDS = [norm.forward for norm in NORMS]
HOOKS = 'forward', 'forward_pre', 'backward', 'backward_pre'


def find_obstacle(block: nn.Module, x: Tensor, path: str) -> Optional[str]:
    """Say why a path cannot compute a block for x; None if it can."""
    if path == 'reference':
        return None
    obstacle = find_layer_obstacle(block) or _input_obstacle(block, x)
    if obstacle or path == 'folded':
        return obstacle
    return find_gram_obstacle(block, x)


def find_gram_obstacle(block: nn.Module, x: Tensor) -> Optional[str]:
    if block.mode != 'dot_product':
        return f'the Gram matrix has no form for {block.mode!r}'
    if x.dtype not in (torch.float32, torch.float64):
        return f'x in {x.dtype} loses the sums of its Gram matrix'
    if autocast_dtype(x.device.type) is not None:
        return 'autocast asks for products in half precision'
    return None


def find_layer_obstacle(block: nn.Module) -> Optional[str]:
    if torch.nn.modules.module._has_any_global_hook():
        return 'a hook looks at the layers of all modules'
    for name, layer in block.named_children():
        if any(getattr(layer, f'_{kind}_hooks') for kind in HOOKS):
            return 'a layer inside the block has a hook'
        if 'forward' in vars(layer):
            return 'a layer inside the block has a forward of its own'
        if name != 'norm' and not _is_as_built(block, name, layer):
            return f'{name} is not the 1x1 convolution of the block: {layer}'
    norm = block.norm
    if isinstance(norm, nn.SyncBatchNorm) and norm.training:
        return 'SyncBN joins the statistics of several processes'
    if isinstance(norm, _InstanceNorm) and norm.track_running_stats:
        return 'an instance norm has running statistics'
    if type(norm).forward not in NORM_FORWARDS:
        return f'the norm is of type {type(norm).__name__}'
    return None


def _is_as_built(block: nn.Module, name: str, layer: nn.Module) -> bool:
    """Return whether a layer is the 1x1 convolution that the block built."""
    return (
        type(layer) is block.conv_type
        and layer.bias is None  # fuse_conv_bn adds one.
        and {*layer.kernel_size, *layer.stride} == {1}
        and layer.groups == (block.groups if name == 'conv_out' else 1)
    )


def _input_obstacle(block: nn.Module, x: Tensor) -> Optional[str]:
    if x.is_meta:
        return 'x is a meta tensor'
    if not x.numel():
        return 'x is empty'
    weight = block.theta.weight
    if x.dtype != weight.dtype and autocast_dtype(x.device.type) is None:
        return f'x has the type {x.dtype} and the weights {weight.dtype}'
    if x.is_inference() and torch.is_grad_enabled():
        return 'autograd keeps no tensor of inference mode'
    if is_half(x) and block.mode not in ('dot_product', 'none'):
        return 'several powers in half precision need the reference'
    return find_transform()


def is_half(x: Tensor) -> bool:
    """Return whether convolutions of x compute in half precision."""
    dtype = autocast_dtype(x.device.type) or x.dtype
    return dtype in HALF and x.dtype != torch.float64


def find_transform() -> Optional[str]:
    """Say which transform of PyTorch has no rule for our functions."""
    if (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return 'torch.func and forward-mode derivatives need the layers'
    return None
