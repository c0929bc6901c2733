"""The normalisation after W_z, from a ``norm_cfg``."""

from typing import Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops.attention import to_accumulator
from ..ops.fused.plan import Norm
from ..ops.torch_versions import TORCH, is_compiling

NORMS = {'GN': nn.GroupNorm, 'SyncBN': nn.SyncBatchNorm}
RANKED = {'BN': 'BatchNorm', 'IN': 'InstanceNorm'}


def build_norm(
    norm_cfg: Union[dict, bool, None], channels: int, groups: int, rank: int
) -> nn.Module:
    """Build the norm of a block.

    Args:
        norm_cfg (dict | bool | None): A dict has ``type``, a name or a class,
            and the arguments of that class; ``requires_grad=False`` freezes
            the norm. The names are 'GN', 'BN', 'IN' and 'SyncBN'. None is
            ``dict(type='GN')``, and False is no norm.
        channels (int): Number of channels.
        groups (int): Default number of groups of GroupNorm.
        rank (int): Number of spatial axes of the block.

    Returns:
        nn.Module: The layer; nn.Identity for False.

    Raises:
        TypeError: If ``norm_cfg`` is of another type.
        ValueError: If the norm is unknown, made for another rank or for
            channels in the last axis, its groups do not divide the channels,
            or it has no weight.
    """
    if norm_cfg is False:
        return nn.Identity()
    cfg = dict(type='GN') if norm_cfg is None else norm_cfg
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            'norm_cfg must be None (GroupNorm with the groups of the block), '
            f"False (no norm) or a dict with a 'type', got {cfg!r}"
        )
    cfg = dict(cfg)
    kind = _resolve(cfg.pop('type'), rank)
    requires_grad = cfg.pop('requires_grad', True)
    if kind is nn.GroupNorm:
        count = cfg.setdefault('num_groups', groups)
        if count < 1 or channels % count:
            raise ValueError(
                f'norm_cfg num_groups={count} does not divide the {channels} '
                'channels'
            )
        norm = nn.GroupNorm(num_channels=channels, **cfg)
    else:
        norm = kind(channels, **cfg)
    if getattr(norm, 'weight', None) is None:
        raise ValueError(
            f'norm_cfg {norm_cfg!r} has no weight that could start at zero; '
            'add affine=True'
        )
    return norm.requires_grad_(requires_grad)


def _resolve(kind: Union[str, type], rank: int) -> type:
    """Return the class of a norm, given by its name or by itself."""
    if kind in ('LN', nn.LayerNorm):
        # It would pass unnoticed where the last axis has C entries.
        raise ValueError(
            "norm_cfg type 'LN' normalises the last axis, which is not the "
            "channels; use dict(type='GN', num_groups=1)"
        )
    for name, stem in RANKED.items():
        if kind in (name, f'{name}{rank}d'):
            return getattr(nn, f'{stem}{rank}d')
        if kind in (f'{name}1d', f'{name}2d', f'{name}3d'):
            raise ValueError(
                f'norm_cfg type {kind!r} does not fit a block with {rank} '
                f'spatial axes; use {name!r} or {name + f"{rank}d"!r}'
            )
    kind = NORMS.get(kind, kind)
    if not isinstance(kind, type):
        raise ValueError(
            f'norm_cfg type {kind!r} is unknown; use GN, BN, SyncBN, IN or '
            'the class of another norm'
        )
    return kind


def contiguous_gradient(norm: nn.Module, u: Tensor) -> Tensor:
    """Let a norm get a contiguous gradient of its output u; return u.

    For one sample, PyTorch 2.14 takes a channels-last gradient of a batch or
    instance norm for a contiguous one.
    """
    if (
        isinstance(norm, (_InstanceNorm, _BatchNorm))
        and u.requires_grad
        and len(u) == 1
        # Before 2.11, PyTorch compiles no hook of a tensor in a graph.
        and not (TORCH < (2, 11) and is_compiling())
    ):
        u.register_hook(Tensor.contiguous)
    return u


def plan_norm(norm: nn.Module, x: Tensor) -> Norm:
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
    groups, samples = channels, 1
    if isinstance(norm, nn.GroupNorm):
        groups = norm.num_groups
    elif isinstance(norm, _InstanceNorm):
        samples = len(x)
    if x.numel() == groups * samples:
        # The layer itself refuses this input, too.
        raise ValueError(
            f'{type(norm).__name__} of the block needs more than 1 value for '
            f'its statistics, got an input of shape {tuple(x.shape)}'
        )
    return Norm(groups, norm.eps, over_batch=is_batch_norm)


def collect_affine(norm: nn.Module, like: Tensor) -> Tuple[Tensor, Tensor]:
    """Return weight and bias of a norm; 1 and 0, as W_z's, without them."""
    weight = getattr(norm, 'weight', None)
    bias = getattr(norm, 'bias', None)
    return (
        like.new_ones(len(like)) if weight is None else weight,
        like.new_zeros(len(like)) if bias is None else bias,
    )


@torch.no_grad()
def update_statistics(
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


class KeptStatistics:
    """Let a norm compute again what it has computed once.

    PyTorch enters the context anew in each backward pass of one graph.
    """

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.norm.buffers()]

    def __exit__(self, *_) -> None:
        for buffer, value in zip(self.norm.buffers(), self.before):
            # A new version would invalidate what autograd keeps.
            buffer.data.copy_(value)
