"""Counts against the closed formulas of the paper's table of costs."""

import pytest
import torch
from demos import trained
from mmcv.cnn import NonLocal2d
from mmengine.analysis import FlopAnalyzer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.analysis.flops import count_flops
from cgnl_mm.errors import SetupError

pytestmark = pytest.mark.skipif(
    not hasattr(FlopCounterMode(display=False), 'mod_tracker'),
    reason='torch < 2.4 does not count by module',
)


class Net(nn.Module):
    """A network that is a module, on a map of as many channels as it takes."""

    def __init__(self, module, channels):
        super().__init__()
        self.backbone = nn.Sequential(module)
        self.channels = channels

    def forward(self, x, mode):
        return self.backbone(x[:, :1].repeat_interleave(self.channels, 1))


def flops_of(block, channels, *size):
    result = count_flops(Net(block, channels).eval(), size)
    (row,) = result['blocks']
    assert (row['name'], row['shape']) == ('backbone.0', [channels, *size])
    assert row['flops'] == result['network']['flops']
    assert result['parts'][0]['flops'] == row['flops']
    return row['flops']


def convolutions(channels, groups, positions):
    """FLOPs of theta, phi, g and W_z."""
    inner = channels // 2
    return 2 * positions * (3 * channels * inner + inner * channels // groups)


@pytest.mark.parametrize('kind, size', [
    (CGNL1d, (7,)), (CGNL2d, (5, 9)), (CGNL2d, (40, 30)), (CGNL3d, (3, 4, 5)),
])  # fmt: skip
@pytest.mark.parametrize('groups, backend', [
    (1, 'auto'), (4, 'auto'), (4, 'folded'), (4, 'gram'),
])  # fmt: skip
def test_dot_product_is_its_closed_formula(kind, size, groups, backend):
    """C'S products, their sum, C'S products with theta; the addition of x.

    The forced paths and the larger size run other operators when they are
    not being counted.
    """
    channels, positions = 16, torch.Size(size).numel()
    values = channels // 2 * positions
    expected = convolutions(channels, groups, positions)
    expected += 3 * values + groups + channels * positions
    block = kind(channels, groups=groups, backend=backend)
    assert flops_of(block, channels, *size) == expected
    assert block.backend == backend


@pytest.mark.parametrize('order', [1, 2, 3])
def test_taylor_series_is_its_closed_formula(order):
    """P powers, P + 1 sums, and by Horner P products and P additions."""
    channels, groups, positions = 16, 4, 30
    values = channels // 2 * positions
    expected = convolutions(channels, groups, positions)
    expected += values * (order + order + 1 + order + order)
    expected += (order + 1) * groups + channels * positions
    block = CGNL2d(16, groups, mode='embedded_gaussian', order=order)
    assert flops_of(block, 16, 5, 6) == expected


def test_outside_of_a_block_elementwise_operations_do_not_count():
    class Other(nn.Module):
        def forward(self, x):
            return x * x + x.sum()

    net = nn.Sequential(Other(), nn.Conv2d(4, 8, 1, bias=False))
    result = count_flops(Net(net, 4), (3, 3))
    assert result['network']['flops'] == 2 * 4 * 8 * 9


def test_non_local_block():
    """Four convolutions and two products with the S x S affinity."""
    block = NonLocal2d(16, reduction=2, mode='dot_product')
    assert flops_of(block, 16, 5, 6) == 2 * (30 * 4 * 16 * 8 + 2 * 30 * 30 * 8)


@pytest.mark.parametrize('name, shape, place', [
    ('r18{}_digits', (32, 32), [64, 2, 2]),
    ('i3d_r18{}_movingdigits', (8, 32, 32), [64, 4, 2, 2]),
    ('mask_rcnn_r18_fpn{}_digitscenes', (60, 64), [64, 4, 4]),
])  # fmt: skip
def test_share_of_the_block_is_the_difference_to_the_twin(name, shape, place):
    plain = count_flops(trained(name.format(''))[1], shape)
    _, model = trained(name.format('_cgnl'))
    result = count_flops(model, shape)
    (block,) = result['blocks']
    assert block['name'] == 'backbone.layer3.cgnl_0'
    assert block['after'] == 'layer3.0' and block['shape'] == place
    whole = result['network']
    for key in ('params', 'flops'):
        after, before = (r['parts'][0][key] for r in (result, plain))
        assert after - before == block[key] > 0
    assert whole['params'] == sum(p.numel() for p in model.parameters())
    # head by head, also those that a detector calls for each region
    assert sum(part['flops'] for part in result['parts']) == whole['flops']
    assert all(part['flops'] for part in result['parts'])


def test_convolutions_and_linear_layers_agree_with_mmengine():
    """An independent count of the same network, by tracing."""
    _, model = trained('r18_digits')
    other = FlopAnalyzer(model, torch.randn(1, 3, 32, 32))
    by_operator = other.unsupported_ops_warnings(False).by_operator()
    multiply_adds = by_operator['conv'] + by_operator['linear']
    result = count_flops(model, (32, 32))
    assert result['network']['flops'] == 2 * multiply_adds


def test_input_that_is_too_small():
    _, model = trained('i3d_r18_movingdigits')
    told = 'an input of 3 x 1 x 7 x 7 alone: .*small'
    with pytest.raises(SetupError, match=told):
        count_flops(model, (1, 7, 7))
