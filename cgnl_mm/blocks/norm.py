"""The normalisation after W_z, from an OpenMMLab ``norm_cfg``."""

from typing import Union

from mmcv.cnn import build_norm_layer
from torch import nn

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
        ValueError: If the norm is unknown, made for another rank or for
            channels in the last axis, its groups do not divide the channels,
            or it has no weight.
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
    if kind in ('LN', nn.LayerNorm):
        # it would pass unnoticed where the last axis has C entries
        raise ValueError(
            "norm_cfg type 'LN' normalises the last axis, which is not the "
            "channels: use dict(type='GN', num_groups=1)"
        )
    if kind in ('GN', nn.GroupNorm):
        num_groups = cfg.setdefault('num_groups', groups)
        if num_groups < 1 or channels % num_groups:
            raise ValueError(
                f'norm_cfg num_groups={num_groups} does not divide the '
                f'{channels} channels'
            )
    try:
        norm = build_norm_layer(cfg, channels)[1]
    except KeyError as error:  # mmcv's message does not say which
        raise ValueError(
            f'norm_cfg type {kind!r} is not registered; known are, for '
            'example, GN, BN, SyncBN and IN'
        ) from error
    if getattr(norm, 'weight', None) is None:
        raise ValueError(
            f'norm_cfg {norm_cfg!r} has no weight to start from zero: add '
            'affine=True'
        )
    return norm
