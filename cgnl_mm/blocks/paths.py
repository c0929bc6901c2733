"""Which path computes a block, why, and the call that runs it.

The path 'auto' follows the measurements of docs/performance.md, which
``tools/benchmark.py`` repeats.
"""

import logging
import math
from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops.torch_versions import autocast_dtype, is_compiling
from .fused import run_fused
from .reference import run_reference

PATHS = ('reference', 'folded', 'gram')
BACKENDS = ('auto', *PATHS)
# Thresholds measured on CPUs. From 512 positions on, and up to 64 channels in
# a group, 'folded' is as fast as 'reference' and keeps half as much memory.
FOLDED_POSITIONS, FOLDED_INNER = 512, 64
# 'gram' pays from so many positions on, and from so many for each channel. It
# spares fewer products without gradients.
GRAM_POSITIONS, GRAM_TRAINING, GRAM_INFERENCE = 2048, 2, 6
# A subclass with a forward method of its own computes something else.
NORMS = nn.GroupNorm, _BatchNorm, _InstanceNorm, nn.SyncBatchNorm, nn.Identity
NORM_FORWARDS = [norm.forward for norm in NORMS]
HOOKS = 'forward', 'forward_pre', 'backward', 'backward_pre'

_logger = logging.getLogger('cgnl_mm')
_said = set()


def run(block: nn.Module, x: Tensor, path: str) -> Tensor:
    """Compute a block for the input x on one of :data:`PATHS`."""
    if path == 'reference':
        return run_reference(block, x)
    return run_fused(block, x, use_gram=path == 'gram')


def choose(block: nn.Module, x: Tensor) -> str:
    """Choose the path of a block for the input x, and log a new choice.

    Returns:
        str: One of :data:`PATHS`.

    Raises:
        RuntimeError: If ``block.backend`` names a path that cannot run.
    """
    if is_compiling() or torch.jit.is_tracing():
        # Compilers fuse the reference, and exporters know its operators.
        return 'reference'
    path, reason = block.backend, f"backend='{block.backend}'"
    if path == 'auto':
        path, reason = _choose_auto(block, x)
    elif obstacle := find_obstacle(block, x, path):
        raise RuntimeError(
            f"backend='{path}' cannot run: {obstacle}; use 'auto' or "
            "'reference'"
        )
    text = f'CGNL runs its {path} path: {reason}'
    if text not in _said:
        _said.add(text)
        _logger.info(text)
    return path


def _choose_auto(block: nn.Module, x: Tensor) -> Tuple[str, str]:
    """Return the path of backend='auto', and the reason."""
    if obstacle := find_obstacle(block, x, 'folded'):
        lost = ' (recompute=True has no effect)' if block.recompute else ''
        return 'reference', obstacle + lost
    device, is_training = x.device.type, torch.is_grad_enabled()
    positions = math.prod(x.shape[2:])
    if device == 'cpu':
        limit = GRAM_TRAINING if is_training else GRAM_INFERENCE
        limit = max(limit * x.shape[1], GRAM_POSITIONS)
        if positions >= limit and not _gram_obstacle(block, x):
            return 'gram', f'{limit} positions or more'
    if block.recompute and is_training:
        return 'folded', 'recompute=True'
    if device != 'cpu':
        return 'reference', f'the others are not measured on {device} yet'
    if not is_training:
        return 'reference', 'the fastest without gradients here'
    if block.inter_channels // block.groups > FOLDED_INNER:
        return 'reference', f'more than {FOLDED_INNER} channels in a group'
    if positions < FOLDED_POSITIONS:
        return 'reference', f'fewer than {FOLDED_POSITIONS} positions'
    return 'folded', f'{FOLDED_POSITIONS} positions or more'


def find_obstacle(block: nn.Module, x: Tensor, path: str) -> Optional[str]:
    """Say why a path cannot compute a block for x; None if it can."""
    if path == 'reference':
        return None
    obstacle = _layer_obstacle(block) or _input_obstacle(block, x)
    if obstacle or path == 'folded':
        return obstacle
    return _gram_obstacle(block, x)


def _gram_obstacle(block: nn.Module, x: Tensor) -> Optional[str]:
    if block.mode != 'dot_product':
        return f'the Gram matrix has no form for {block.mode!r}'
    if x.dtype not in (torch.float32, torch.float64):
        return f'x in {x.dtype} loses the sums of its Gram matrix'
    if autocast_dtype(x.device.type) is not None:
        return 'autocast asks for products in half precision'
    return None


def _layer_obstacle(block: nn.Module) -> Optional[str]:
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
    if (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return 'torch.func and forward-mode derivatives need the layers'
    return None
