"""The normalisation after W_z, from an OpenMMLab ``norm_cfg``."""

from typing import Union

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.func import functional_call

_RANKED = ('BN', 'IN')  # mmcv's 'BN' is BN2d whatever the rank


def build_norm(
    norm_cfg: Union[dict, bool, None], channels: int, groups: int, rank: int
) -> nn.Module:
    """Build the norm of a block.

    Args:
        norm_cfg (dict | bool | None): OpenMMLab norm config. None is
            GroupNorm with ``groups`` groups; ``dict(type='GN')`` takes the
            same default; 'BN' and 'IN' get the block's rank; False is no
            normalisation.
        channels (int): Number of channels.
        groups (int): Default number of groups of GroupNorm.
        rank (int): Number of spatial axes of the block.

    Returns:
        nn.Module: The layer; nn.Identity for False.

    Raises:
        TypeError: If ``norm_cfg`` is of another type.
        ValueError: If the norm is made for another rank, its groups do not
            divide the channels, or it has no weight.
    """
    if norm_cfg is False:
        return nn.Identity()
    if norm_cfg is None:
        norm_cfg = dict(type='GN')
    if not isinstance(norm_cfg, dict) or 'type' not in norm_cfg:
        raise TypeError(
            'norm_cfg must be None (GroupNorm with the groups of the block), '
            f"False (no norm) or a dict with a 'type', got {norm_cfg!r}"
        )
    cfg = dict(norm_cfg)
    kind = cfg['type']
    if kind in _RANKED:
        cfg['type'] = f'{kind}{rank}d'
    elif (
        isinstance(kind, str)
        and kind[:-2] in _RANKED
        and kind[-2:] != f'{rank}d'
    ):
        raise ValueError(
            f'norm_cfg type {kind!r} does not fit a block with {rank} '
            f'spatial axes: use {kind[:-2]!r} or {kind[:-2] + f"{rank}d"!r}'
        )
    if kind == 'GN':
        num_groups = cfg.setdefault('num_groups', groups)
        if channels % num_groups:
            raise ValueError(
                f'norm_cfg num_groups={num_groups} does not divide the '
                f'{channels} channels'
            )
    norm = build_norm_layer(cfg, channels)[1]
    if getattr(norm, 'weight', None) is None:
        raise ValueError(
            f'norm_cfg {norm_cfg!r} has no weight to start from zero: add '
            'affine=True'
        )
    return norm


def norm_in_float32(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply ``norm`` to float32 ``x``, also where its weights are float16."""
    state = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    if any(t.dtype == torch.float16 for t in state.values()):
        state = {
            k: t.to(x.dtype) if t.is_floating_point() else t
            for k, t in state.items()
        }
        return functional_call(norm, state, (x,))
    return norm(x)
