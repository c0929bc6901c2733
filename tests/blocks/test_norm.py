"""norm_cfg: which layer it builds, with which settings."""

import pytest
import torch
from mmengine.registry import MODELS
from samples import BLOCKS
from torch import nn

from cgnl_mm import CGNL2d


class Registered(nn.BatchNorm2d):
    """A norm that MMEngine's registry knows and this project does not."""


@pytest.mark.parametrize(
    ('rank', 'norm_cfg', 'expected', 'settings'),
    [
        (2, None, nn.GroupNorm, dict(num_groups=4, eps=1e-5)),
        (2, dict(type='GN'), nn.GroupNorm, dict(num_groups=4)),
        (2, dict(type=nn.GroupNorm), nn.GroupNorm, dict(num_groups=4)),
        (
            3,
            dict(type='GN', num_groups=1, eps=1e-3),
            nn.GroupNorm,
            dict(num_groups=1, eps=1e-3),
        ),
        (1, dict(type='BN'), nn.BatchNorm1d, {}),
        (2, dict(type='BN'), nn.BatchNorm2d, {}),
        (3, dict(type='BN', momentum=0.5), nn.BatchNorm3d, {'momentum': 0.5}),
        (3, dict(type='BN3d'), nn.BatchNorm3d, {}),
        (3, dict(type='SyncBN'), nn.SyncBatchNorm, {}),
        (3, dict(type='IN', affine=True), nn.InstanceNorm3d, {}),
        (2, dict(type='Registered', eps=1e-3), Registered, dict(eps=1e-3)),
        (2, False, nn.Identity, {}),
    ],
    ids=str,
)
def test_layer(rank, norm_cfg, expected, settings):
    MODELS.register_module(module=Registered, force=True)
    given = dict(norm_cfg) if norm_cfg else norm_cfg
    block = BLOCKS[rank](16, groups=4, norm_cfg=norm_cfg)
    assert type(block.norm) is expected
    for name, value in settings.items():
        assert getattr(block.norm, name) == value
    assert norm_cfg == given  # A config is shared, so it stays as it was.


@pytest.mark.parametrize('kind', ['BN', 'Registered'])
def test_frozen_norm(kind):
    MODELS.register_module(module=Registered, force=True)
    norm_cfg = dict(type=kind, requires_grad=False)
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
    block.eval()
    other = torch.randn(2, 16, 5, 5)
    y, mean = block(other) - other, features[0].mean((0, 2, 3))
    torch.testing.assert_close(block.norm.running_mean, mean)
    var = features[0].var((0, 2, 3), unbiased=True)
    expected = features[1] - mean[:, None, None]
    expected = expected / (var[:, None, None] + block.norm.eps).sqrt()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
