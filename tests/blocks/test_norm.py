"""norm_cfg: which layer it builds, with which settings."""

import pytest
import torch
from torch import nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d


@pytest.mark.parametrize(
    ('cls', 'norm_cfg', 'expected', 'settings'),
    [
        (CGNL2d, None, nn.GroupNorm, dict(num_groups=4, eps=1e-5)),
        (CGNL2d, dict(type='GN'), nn.GroupNorm, dict(num_groups=4)),
        (CGNL2d, dict(type=nn.GroupNorm), nn.GroupNorm, dict(num_groups=4)),
        (
            CGNL3d,
            dict(type='GN', num_groups=1, eps=1e-3),
            nn.GroupNorm,
            dict(num_groups=1, eps=1e-3),
        ),
        (CGNL1d, dict(type='BN'), nn.BatchNorm1d, {}),
        (CGNL2d, dict(type='BN'), nn.BatchNorm2d, {}),
        (CGNL3d, dict(type='BN', momentum=0.5), nn.BatchNorm3d, {}),
        (CGNL3d, dict(type='BN3d'), nn.BatchNorm3d, {}),
        (CGNL3d, dict(type='SyncBN'), nn.SyncBatchNorm, {}),
        (CGNL3d, dict(type='IN', affine=True), nn.InstanceNorm3d, {}),
        (CGNL2d, False, nn.Identity, {}),
    ],
    ids=str,
)
def test_layer(cls, norm_cfg, expected, settings):
    given = dict(norm_cfg) if norm_cfg else norm_cfg
    block = cls(16, groups=4, norm_cfg=norm_cfg)
    assert isinstance(block.norm, expected)
    for name, value in settings.items():
        assert getattr(block.norm, name) == value
    if isinstance(norm_cfg, dict) and 'momentum' in norm_cfg:
        assert block.norm.momentum == norm_cfg['momentum']
    assert norm_cfg == given  # a config is shared: it stays as it was


def test_frozen_norm():
    norm_cfg = dict(type='BN', requires_grad=False)
    block = CGNL2d(16, groups=4, norm_cfg=norm_cfg)
    assert not block.norm.weight.requires_grad
    assert block.theta.weight.requires_grad


def test_batch_norm_statistics():
    """Trained: of the batch; evaluated: the running ones."""
    cfg = dict(type='BN', momentum=None)
    block = CGNL2d(16, groups=4, norm_cfg=cfg, zero_init=False, init_std=0.3)
    x = torch.randn(4, 16, 5, 5)
    features = []
    block.norm.register_forward_pre_hook(
        lambda _, args: features.append(args[0].detach())
    )
    y = block(x) - x
    torch.testing.assert_close(
        y.mean((0, 2, 3)), torch.zeros(16), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        y.var((0, 2, 3), unbiased=False), torch.ones(16), rtol=1e-3, atol=0
    )
    torch.testing.assert_close(
        block.norm.running_mean, features[0].mean((0, 2, 3))
    )
    block.eval()
    other = torch.randn(2, 16, 5, 5)
    y = block(other) - other
    norm = block.norm
    expected = (features[1] - norm.running_mean[:, None, None]) / (
        norm.running_var[:, None, None] + norm.eps
    ).sqrt()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
