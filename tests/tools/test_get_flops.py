"""get_flops.py against the closed formulas of the paper's table of costs."""

import json

import pytest
import torch
from demos import CONFIGS, trained
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.deploy.model import input_shape

pytestmark = pytest.mark.skipif(
    not hasattr(FlopCounterMode(display=False), 'mod_tracker'),
    reason='torch < 2.4 does not count by module',
)


@pytest.fixture
def tool(load_tool):
    return load_tool('_flops')


class Net(nn.Module):
    """A network that is one block."""

    def __init__(self, block):
        super().__init__()
        self.backbone = nn.Sequential(block)

    def forward(self, x):
        return self.backbone(x)


def flops_of(tool, block, shape):
    net = Net(block)
    x = torch.randn(1, *shape)
    flops, shapes = tool.count(net, lambda: net(x))
    assert shapes == {'backbone.0': [1, *shape]}
    assert flops['backbone.0'] == flops['']
    return flops['']


def convolutions(channels, groups, positions):
    """FLOPs of theta, phi, g and W_z."""
    inner = channels // 2
    return 2 * positions * (3 * channels * inner + inner * channels // groups)


@pytest.mark.parametrize('kind, size', [
    (CGNL1d, (7,)), (CGNL2d, (5, 9)), (CGNL2d, (40, 30)), (CGNL3d, (3, 4, 5)),
])  # fmt: skip
@pytest.mark.parametrize('groups', [1, 4])
def test_dot_product_is_its_closed_formula(tool, kind, size, groups):
    """C'S products, their sum, C'S products with theta; the addition of x.

    The larger size runs other operators when it is not being counted.
    """
    channels, positions = 16, torch.Size(size).numel()
    values = channels // 2 * positions
    expected = convolutions(channels, groups, positions)
    expected += 3 * values + groups + channels * positions
    block = kind(channels, groups=groups)
    assert flops_of(tool, block, (channels, *size)) == expected
    assert block.backend == 'auto'


@pytest.mark.parametrize('order', [1, 2, 3])
def test_taylor_series_is_its_closed_formula(tool, order):
    """P powers, P + 1 sums, and by Horner P products and P additions."""
    channels, groups, positions = 16, 4, 30
    values = channels // 2 * positions
    expected = convolutions(channels, groups, positions)
    expected += values * (order + order + 1 + order + order)
    expected += (order + 1) * groups + channels * positions
    block = CGNL2d(16, groups, mode='embedded_gaussian', order=order)
    assert flops_of(tool, block, (16, 5, 6)) == expected


@pytest.mark.parametrize('channels, size, groups, mega', [
    (1024, (14, 14), 8, 321), (1024, (14, 14), 1, 411),
    (1024, (28, 28), 8, 1285), (1024, (4, 14, 14), 8, 1285),
    (512, (28, 28), 8, 322),
])  # fmt: skip
def test_published_sizes_in_multiply_adds(tool, channels, size, groups, mega):
    kind = CGNL2d if len(size) == 2 else CGNL3d
    flops = flops_of(tool, kind(channels, groups), (channels, *size))
    assert flops / 2e6 == pytest.approx(mega, abs=1.1)


@pytest.mark.parametrize('backend', ['folded', 'gram', 'auto'])
def test_forced_path_counts_the_same_and_comes_back(tool, backend):
    expected = flops_of(tool, CGNL2d(16, 4), (16, 40, 40))
    block = CGNL2d(16, 4, backend=backend)
    assert flops_of(tool, block, (16, 40, 40)) == expected
    assert block.backend == backend
    assert not block._forward_pre_hooks


def test_outside_of_a_block_elementwise_operations_do_not_count(tool):
    class Other(nn.Module):
        def forward(self, x):
            return x * x + x.sum()

    net = Net(nn.Sequential(Other(), nn.Conv2d(4, 8, 1, bias=False)))
    flops, _ = tool.count(net, lambda: net(torch.randn(1, 4, 3, 3)))
    assert flops[''] == 2 * 4 * 8 * 9


def test_non_local_block(tool):
    """Four convolutions and two products with the S x S affinity."""
    from mmcv.cnn import NonLocal2d

    block = NonLocal2d(16, reduction=2, mode='dot_product')
    flops = flops_of(tool, block, (16, 5, 6))
    assert flops == 2 * (30 * 4 * 16 * 8 + 2 * 30 * 30 * 8)


def measured(tool, name, shape):
    cfg, model = trained(name)
    return model, tool.measure(model, cfg.default_scope, shape)


@pytest.mark.parametrize('name, shape, place', [
    ('r18{}_digits', (32, 32), [64, 2, 2]),
    ('i3d_r18{}_movingdigits', (8, 32, 32), [64, 4, 2, 2]),
    ('mask_rcnn_r18_fpn{}_digitscenes', (60, 64), [64, 4, 4]),
])  # fmt: skip
def test_share_of_the_block_is_the_difference_to_the_twin(
    tool, name, shape, place
):
    _, plain = measured(tool, name.format(''), shape)
    model, result = measured(tool, name.format('_cgnl'), shape)
    (block,) = result['blocks']
    assert (block.name, block.kind[:4]) == ('backbone.layer3.cgnl_0', 'CGNL')
    assert block.place == 'layer3, after unit 0'
    assert block.shape == place
    whole = result['network']
    backbone = {part.name: part for part in result['parts']}['backbone']
    before = {part.name: part for part in plain['parts']}['backbone']
    assert backbone.flops - before.flops == block.flops > 0
    assert backbone.params - before.params == block.params > 0
    assert block.flops_share == block.flops / whole.flops
    assert whole.params == sum(p.numel() for p in model.parameters())
    # head by head, also those that a detector calls for each region
    assert sum(part.flops for part in result['parts']) == whole.flops
    assert all(part.flops for part in result['parts'])


def test_convolutions_and_linear_layers_agree_with_mmengine(tool):
    """An independent count of the same network, by tracing."""
    from mmengine.analysis import FlopAnalyzer

    model, result = measured(tool, 'r18_digits', (32, 32))
    other = FlopAnalyzer(model, torch.randn(1, 3, 32, 32))
    other = other.unsupported_ops_warnings(False)
    by_operator = other.by_operator()
    multiply_adds = by_operator['conv'] + by_operator['linear']
    assert result['network'].flops == 2 * multiply_adds


def test_command(run_tool, tmp_path):
    config = CONFIGS / 'r18_cgnl_digits.py'
    done = run_tool('get_flops.py', config, '--json', cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result['shape'] == [32, 32]  # of the data set
    (block,) = result['blocks']
    assert block['params'] == 64 * 32 * 3 + 64 * 32 // 8 + 2 * 64
    done = run_tool('get_flops.py', config, '--shape', 64, 32, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert 'one input of 3 x 64 x 32' in lines[0]
    (line,) = [line for line in lines if 'cgnl_0' in line]
    assert 'layer3, after unit 0' in line and '64x4x2' in line


@pytest.mark.parametrize('name, options, message', [
    ('r18_digits', ('--shape', 8, 32, 32), '--shape takes H W'),
    ('i3d_r18_movingdigits', ('--shape', 32, 32), '--shape takes T H W'),
    ('fcn_r50_cgnl_cityscapes', (), 'takes networks of mmpretrain'),
    ('r18_digits', ('--cfg-options', 'model'), 'takes KEY=VALUE'),
])  # fmt: skip
def test_wrong_use(message_of, name, options, message):
    assert message in message_of('get_flops', CONFIGS / f'{name}.py', *options)


@pytest.mark.parametrize('name, shape', [
    ('r50_cgnl_cub', (448, 448)),
    ('i3d_r50_cgnl_minikinetics', (32, 256, 256)),
    ('mask_rcnn_r50_fpn_cgnl_coco', (800, 1333)),
    ('i3d_r18_cgnl_movingdigits', (8, 64, 64)),
    ('mask_rcnn_r18_fpn_cgnl_digitscenes', (128, 128)),
])  # fmt: skip
def test_shape_by_default_is_that_of_the_test_pipeline(name, shape):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert input_shape(cfg, None) == shape
