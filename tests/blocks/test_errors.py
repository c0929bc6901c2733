"""Wrong settings and inputs end at once, in a message with the value."""

import math

import pytest
import torch
from mmengine.registry import MODELS

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d

INTEGER = 'must be an integer >= 1, got'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(groups=3), 'groups=3 .* 8; allowed are 1, 2, 4, 8'),
        (dict(groups=16), 'groups=16 does not divide'),
        (dict(reduction=3), 'reduction=3 does not divide in_channels=16'),
        (dict(groups=0), f'groups {INTEGER} 0'),
        (dict(groups=2.0), f'groups {INTEGER} 2.0'),
        (dict(groups=True), f'groups {INTEGER} True'),
        (dict(reduction=0), f'reduction {INTEGER} 0'),
        (dict(in_channels='16'), f"in_channels {INTEGER} '16'"),
        (dict(mode='softmax'), "dot_product, .*, none, got 'softmax'"),
        (dict(mode='gaussian_rbf', order=-1), 'order .* got -1'),
        (dict(mode='learnable', order=0), 'order .* 1 to 100, got 0'),
        (dict(mode='dot_product', order=0), 'order .* 1 to 100, got 0'),
        (dict(mode='embedded_gaussian', order=2.5), 'order .* got 2.5'),
        (dict(mode='learnable', order=10**9), 'order .* got 1000000000'),
        (dict(mode='gaussian_rbf', order=True), '0 to 100, got True'),
        (dict(mode='gaussian_rbf', gamma=0.0), 'gamma .* got 0.0'),
        (dict(mode='gaussian_rbf', gamma=math.nan), 'gamma .* got nan'),
        (dict(mode='gaussian_rbf', gamma=math.inf), 'gamma .* got inf'),
        (dict(mode='none', use_scale=True), 'leave use_scale out'),
        (dict(use_scale='no'), "use_scale .* True, False, got 'no'"),
        (dict(recompute='no'), "recompute .* True, False, got 'no'"),
        (dict(init_std=-0.1), 'init_std .* got -0.1'),
        (dict(init_std=math.inf), 'init_std .* got inf'),
        (dict(init_std=True), 'init_std .* got True'),
        (dict(init_std='0.1'), "init_std .* got '0.1'"),
        (dict(norm_weight=-1.0), 'norm_weight .* got -1.0'),
        (dict(norm_weight=math.nan), 'norm_weight .* got nan'),
        (dict(norm_weight=None), 'norm_weight .* got None'),
        (dict(backend='fast'), "backend must be one of .* got 'fast'"),
    ],
)
def test_settings(options, message):
    options = {'in_channels': 16, 'groups': 4, **options}
    with pytest.raises(ValueError, match=message):
        CGNL2d(**options)


def test_unknown_keyword():
    with pytest.raises(TypeError, match="'group'"):
        MODELS.build(dict(type='CGNL2d', in_channels=16, group=8))


@pytest.mark.parametrize(
    ('cls', 'norm_cfg', 'error', 'message'),
    [
        (CGNL3d, dict(type='BN2d'), ValueError, "'BN2d'.* 3 .*'BN3d'"),
        (CGNL1d, dict(type='IN3d'), ValueError, "'IN3d'.* 1 .*'IN1d'"),
        (CGNL2d, dict(type='IN'), ValueError, 'affine=True'),
        (CGNL2d, dict(type='BN', affine=False), ValueError, 'affine=True'),
        (CGNL2d, dict(type='GN', num_groups=3), ValueError, '=3 .* 16 '),
        (CGNL2d, dict(type='GN', num_groups=0), ValueError, '=0 .* 16 '),
        (CGNL2d, dict(type='LN'), ValueError, 'num_groups=1'),
        (CGNL2d, dict(type='Nope'), ValueError, "'Nope' is unknown; use GN"),
        (CGNL2d, dict(type='GN', momentum=1), TypeError, 'momentum'),
        (CGNL2d, dict(num_groups=4), TypeError, "{'num_groups': 4}"),
        (CGNL2d, 'BN', TypeError, "'BN'"),
        (CGNL2d, True, TypeError, 'True'),
    ],
)
def test_norms(cls, norm_cfg, error, message):
    with pytest.raises(error, match=message):
        cls(16, groups=4, norm_cfg=norm_cfg)


@pytest.mark.parametrize(
    ('cls', 'shape', 'expected'),
    [
        (CGNL1d, (2, 16, 3, 3), 'W'),
        (CGNL2d, (16, 3, 3), 'H, W'),
        (CGNL2d, (2, 8, 3, 3), 'H, W'),
        (CGNL3d, (2, 3, 16, 3, 3), 'T, H, W'),
    ],
)
def test_inputs(cls, shape, expected):
    with pytest.raises(ValueError) as error:
        cls(16, groups=4)(torch.zeros(shape))
    assert f'expects (B, 16, {expected}), got shape {shape}' in str(error)
