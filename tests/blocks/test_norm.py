"""norm_cfg: which layer it builds, with which settings."""

import pytest
from samples import BLOCKS
from torch import nn

from cgnl_mm import CGNL2d


class Other(nn.BatchNorm2d):
    """A norm that is not PyTorch's."""


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
        (2, dict(type=Other, eps=1e-3), Other, dict(eps=1e-3)),
        (2, False, nn.Identity, {}),
    ],
    ids=str,
)
def test_layer(rank, norm_cfg, expected, settings):
    given = dict(norm_cfg) if norm_cfg else norm_cfg
    block = BLOCKS[rank](16, groups=4, norm_cfg=norm_cfg)
    assert type(block.norm) is expected
    for name, value in settings.items():
        assert getattr(block.norm, name) == value
    assert norm_cfg == given  # A config is shared, so it stays as it was.


@pytest.mark.parametrize('kind', ['BN', Other])
def test_frozen_norm(kind):
    norm_cfg = dict(type=kind, requires_grad=False)
    block = CGNL2d(16, groups=4, norm_cfg=norm_cfg)
    assert not block.norm.weight.requires_grad
    assert block.theta.weight.requires_grad
