"""Maps and factors against the literal operator."""

import math

import pytest
import torch
from mmcv.cnn import NonLocal2d
from torch import nn
from torch.testing import assert_close

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.ops import cgnl_attention, generalized_nonlocal
from cgnl_mm.visualization import (
    attention_map,
    block_inputs,
    find_blocks,
    group_factors,
)

MODES = ('dot_product', 'embedded_gaussian', 'gaussian_rbf', 'learnable')
SIZES = {1: (5,), 2: (3, 2), 3: (2, 1, 3)}
BLOCKS = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}


def block_and_input(rank=2, batch=2, **options):
    """fp64, with weights large enough that every power matters."""
    options = dict(dict(groups=2, init_std=0.4, gamma=0.3), **options)
    block = BLOCKS[rank](12, **options).double()
    if block.mode == 'learnable':
        with torch.no_grad():
            block.coefficients.copy_(torch.tensor([0.7, -1.2, 0.5, 0.9]))
    return block, torch.randn(batch, 12, *SIZES[rank], dtype=torch.float64)


def scale_of(block, x):
    inner = block.inter_channels // block.groups
    positions = math.prod(x.shape[2:])
    return (inner * positions) ** -0.5 if block.use_scale else 1.0


def operator_output(block, x):
    maps = block.theta(x), block.phi(x), block.g(x)
    series = block.coefficients, block.groups, scale_of(block, x)
    return cgnl_attention(*maps, *series)


def explicit_map(block, x, position, kernel):
    """Column by column from the truth: values are on at one position only."""
    theta, phi = block.theta(x), block.phi(x)
    full = torch.zeros(len(x), block.groups, *x.shape[2:], dtype=x.dtype)
    for j in range(full[0, 0].numel()):
        only = torch.zeros_like(x[:1, :1]).flatten()
        only[j] = 1
        values = torch.ones_like(phi) * only.view(1, 1, *x.shape[2:])
        options = dict(groups=block.groups, scale=scale_of(block, x))
        y = generalized_nonlocal(theta, phi, values, kernel, **options)
        here = y[(..., *position)].view(len(x), block.groups, -1).mean(-1)
        full.flatten(2)[..., j] = here
    return full


PLACES = {1: [(4,)], 2: [(0, 0), (2, 1), (1, 0)], 3: [(1, 0, 2)]}
FACTORS = {
    'mode': MODES, 'rank, groups': [(1, 2), (2, 1), (2, 2), (2, 6), (3, 2)],
    'use_scale': [False, True],
}  # fmt: skip


@pytest.mark.pairs(FACTORS)
@torch.no_grad()
def test_map_is_the_row_of_the_affinity(mode, rank, groups, use_scale):
    options = dict(mode=mode, groups=groups, use_scale=use_scale)
    block, x = block_and_input(rank, **options)
    for at in PLACES[rank]:
        expected = explicit_map(block, x, at, block.coefficients)
        found = attention_map(block, x, at)
        assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('use_scale', [False, True])
@pytest.mark.parametrize('mode', MODES)
@torch.no_grad()
def test_factors_make_the_output(mode, use_scale):
    block, x = block_and_input(mode=mode, use_scale=use_scale)
    theta = block.theta(x).view(2, 2, -1)
    factors = group_factors(block, x)
    y = sum(factors[p].unsqueeze(-1) * theta**p for p in factors)
    assert list(factors) == ([1] if mode == 'dot_product' else [0, 1, 2, 3])
    assert_close(y.view(2, 6, 3, 2), operator_output(block, x))


def test_map_under_autocast_is_that_of_the_block():
    """Projections in bfloat16, sums in float32, as in the block."""
    block, x = block_and_input()
    block, x = block.float(), x.float()
    with torch.autocast('cpu', torch.bfloat16):
        half = attention_map(block, x, (1, 1))
        theta, phi = block.theta(x), block.phi(x)
    assert half.dtype == torch.float32
    looking = theta.float().view(2, 2, 3, 6)[..., 3].mean(-1)
    looked = phi.float().view(2, 2, 3, 6).sum(2)
    assert_close(half.flatten(2), looking.unsqueeze(-1) * looked)


@pytest.mark.parametrize('position', [(3, 0), (0, -1), (0,), (0, 0, 0)])
def test_position_outside_names_the_size(position):
    block, x = block_and_input()
    with pytest.raises(ValueError, match=r'outside of a map of size \(3, 2\)'):
        attention_map(block, x, position)


def test_block_without_attention_says_so():
    block, x = block_and_input(mode='none')
    with pytest.raises(ValueError, match='no attention'):
        attention_map(block, x, (0, 0))
    with pytest.raises(ValueError, match='no attention'):
        group_factors(block, x)


def test_inputs_are_kept_and_the_hooks_removed():
    model = nn.Sequential(nn.Conv2d(3, 12, 1), CGNL2d(12, 2), NonLocal2d(12))
    x = torch.randn(1, 3, 4, 4)
    blocks = find_blocks(model)
    assert list(blocks) == ['1', '2']
    with block_inputs(blocks) as inputs:
        model(x)
        model(x + 1)
    assert_close(inputs['1'], model[0](x))
    assert list(inputs) == ['1', '2']
    assert not any(block._forward_pre_hooks for block in blocks.values())
