"""Start networks with blocks from checkpoints in their original formats.

test_initialization.py shows what loads our own names.
"""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from networks import Network, assert_same, build, outputs, plugin, randomize
from torch import nn

from cgnl_mm.insertion.inflation import _inflate_block
from cgnl_mm.insertion.initialization import named_blocks

ROOT = Path(__file__).parents[2]
I3D = (
    'mmaction::recognition/i3d/'
    'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py'
)
TWO = Network(
    'mmpretrain',
    dict(type='ResNet', depth=50, base_channels=8, stem_channels=8),
    *('layer3.-2', 'layer3.cgnl_4'),
)
KINDS = {
    name: Network(
        'mmaction',
        dict(type=name, depth=50, base_channels=8),
        *('layer3.-2', 'layer3.cgnl_4', (3, 8, 32, 32)),
    )
    for name in ('ResNet3d', 'ResNet3dSlowOnly')
}
THREE = KINDS['ResNet3d']


def first_block(net):
    """Give the path and the module of a network's first block."""
    return next(named_blocks(net))


def entry(type, **cfg):
    return dict(cfg=dict(type=type, **cfg), after='layer3.-2')


def torchvision_names(state):
    """Name the weights of a network of mmaction as torchvision does, in 2D."""
    renamed = {}
    for key, value in state.items():
        key = key.replace('downsample.conv.', 'downsample.0.')
        key = key.replace('downsample.bn.', 'downsample.1.')
        key = re.sub(r'(conv\d)\.conv\.', r'\1.', key)
        key = re.sub(r'conv(\d)\.bn\.', r'bn\1.', key)
        renamed[key] = value.sum(2) if value.dim() == 5 else value
    return renamed


def assert_fresh(net):
    """The block is the identity."""
    _, block = first_block(net)
    x = torch.randn(2, block.in_channels, 2, 4, 4)
    assert torch.equal(block(x), x)


def assert_inflated(net, state_2d):
    """Every kernel is the 2D one, spread over its frames."""
    state = net.state_dict()
    for key, value in state.items():
        if value.dim() == 5 and 'cgnl' not in key:
            assert torch.equal(value, value[:, :, :1].expand_as(value)), key
    state = torchvision_names(state)
    for key, value in state_2d.items():
        if value.dim() == 4:
            assert torch.allclose(state[key], value, atol=1e-6), key
        elif not key.startswith('fc.'):
            assert torch.equal(state[key], value), key


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory):
    """Give torchvision's own network and its file."""
    torch.manual_seed(1)
    net = torchvision.models.resnet18()
    for name, value in net.state_dict().items():
        if name.endswith('running_mean'):
            value.normal_(0, 0.1)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
    file = tmp_path_factory.mktemp('torchvision') / 'resnet18.pth'
    torch.save(net.state_dict(), file)
    return net.eval(), file


@pytest.mark.parametrize(
    'host, prefix',
    [('mmpretrain', 'backbone.'), ('mmdet', ''), ('mmaction', '')],
)
def test_2d(host, prefix, resnet18, tmp_path):
    theirs, file = resnet18
    loading = dict(type='Pretrained', checkpoint=str(file))
    if prefix:
        state = {f'{prefix}{k}': v for k, v in theirs.state_dict().items()}
        file = tmp_path / 'resnet18_8xb32_in1k.pth'
        torch.save(dict(meta=dict(epoch=1), state_dict=state), file)
        loading.update(checkpoint=str(file), prefix=prefix)
    start = dict(init_cfg=loading)
    if host == 'mmaction':
        start = dict(pretrained=str(file))
    cfg = dict(type='ResNet', depth=18, out_indices=(3,), **start)
    net = build(host, dict(cfg, plugins=[plugin('layer3.-2')]))
    net.init_weights()
    net.eval()
    x = torch.randn(1, 3, 32, 32)
    (ours,) = outputs(net, x)
    (expected,) = outputs(nn.Sequential(*list(theirs.children())[:-2]), x)
    assert expected.std() > 0.1
    # The hosts run the same operators.
    assert torch.equal(ours, expected)


@pytest.fixture
def trained_2d(tmp_path):
    """Make a narrow R-50 of mmpretrain, with blocks or without, and its file:
    that of the backbone alone, or with a prefix that of a model."""

    def make(plugins=None, prefix=''):
        net = randomize(TWO.build(plugins))
        state = {f'{prefix}{k}': v for k, v in net.state_dict().items()}
        if prefix:
            state['head.fc.weight'] = torch.ones(10, 256)
            state = dict(meta=dict(epoch=1), state_dict=state)
        torch.save(state, tmp_path / '2d.pth')
        net.eval()
        return net, str(tmp_path / '2d.pth')

    return make


@pytest.mark.parametrize(
    'name, source',
    [
        ('ResNet3d', 'torchvision'),
        ('ResNet3d', ''),
        ('ResNet3dSlowOnly', 'backbone.'),
    ],
)
def test_inflation(name, source, resnet18, trained_2d, warnings_logged):
    network, width = KINDS[name], {}
    if source == 'torchvision':
        (net_2d, file), width = resnet18, dict(base_channels=64, depth=18)
    else:
        net_2d, file = trained_2d(prefix=source)
    net = network.build([network.entry], pretrained=str(file), **width)
    _, block = first_block(net)
    before = {k: v.clone() for k, v in block.state_dict().items()}
    net.init_weights()
    assert_inflated(net, net_2d.state_dict())
    assert_same(block.state_dict(), before)
    assert_fresh(net)
    assert warnings_logged == []


BN, BN3D = dict(norm_cfg=dict(type='BN')), dict(norm_cfg=dict(type='BN3d'))


@pytest.mark.parametrize(
    'block, settings, settings_3d, prefix',
    [
        ('CGNL', {}, {}, ''),
        ('CGNL', BN, BN, 'backbone.'),
        ('CGNL', dict(mode='learnable'), dict(mode='learnable'), 'backbone.'),
        ('NonLocal', BN, BN3D, ''),
        ('NonLocal', BN, BN3D, 'backbone.'),
    ],
)
def test_a_2d_block_inflates(
    block, settings, settings_3d, prefix, trained_2d, warnings_logged
):
    """Fine-tuned on images with a block, then on video with the same."""
    net_2d, file = trained_2d([entry(f'{block}2d', **settings)], prefix)
    plugins = [entry(f'{block}3d', **settings_3d)]
    net = THREE.build(plugins, pretrained=file)
    net.init_weights()
    expected = {
        key: value[:, :, None] if value.dim() == 4 else value
        for key, value in first_block(net_2d)[1].state_dict().items()
    }
    assert_same(first_block(net)[1].state_dict(), expected)
    assert warnings_logged == []


def test_a_larger_kernel_inflates_to_frames_that_add_up_to_it():
    block, block_2d = nn.Conv3d(2, 3, (2, 5, 5)), nn.Conv2d(2, 3, 5)
    _inflate_block(block, block_2d.state_dict(), 'layer3.conv_4')
    assert torch.equal(block.weight[:, :, 0], block_2d.weight / 2)
    assert torch.equal(block.weight.sum(2), block_2d.weight)
    assert torch.equal(block.bias, block_2d.bias)


def test_a_2d_block_that_does_not_fit(trained_2d, warnings_logged):
    net_2d, file = trained_2d([entry('CGNL2d', groups=4)])
    plugins = [entry('CGNL3d', groups=2, mode='learnable')]
    net = THREE.build(plugins, pretrained=file)
    path, block = first_block(net)
    kept = block.conv_out.weight.clone()
    net.init_weights()
    theta = first_block(net_2d)[1].theta.weight
    assert torch.equal(block.theta.weight[:, :, 0], theta)
    assert torch.equal(block.conv_out.weight, kept)
    (warning,) = warnings_logged
    assert warning.startswith(path)
    assert warning.endswith(': coefficients, conv_out.weight')


@pytest.mark.parametrize(
    'name, mode',
    [('ResNet3d', 'gaussian_rbf'), ('ResNet3dSlowOnly', 'dot_product')],
)
def test_2d_case_of_a_3d_backbone(name, mode, trained_2d):
    """One frame through kernels of one frame: the 2D network."""
    net_2d, file = trained_2d([entry('CGNL2d', mode=mode)])
    net = KINDS[name].build(
        [entry('CGNL3d', mode=mode)],
        pretrained=file,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        with_pool2=False,
        inflate=(0, 0, 0, 0),
    )
    net.init_weights()
    net.eval()
    x = torch.randn(2, 3, 64, 64)
    (expected,) = outputs(net_2d, x)
    (ours,) = outputs(net, x[:, :, None])
    assert expected.std() > 0
    atol = 1e-5 * expected.abs().max().item()
    assert torch.allclose(ours[:, :, 0], expected, rtol=0, atol=atol)
    # The block has its share in it.
    nn.init.zeros_(first_block(net)[1].norm.weight)
    (other,) = outputs(net, x[:, :, None])
    assert (other - ours).abs().max() > 1e-2 * ours.abs().max()


def build_narrow(cfg, **backbone):
    settings = dict(base_channels=8, pretrained=None)
    cfg.model.backbone.update({**settings, **backbone})
    cfg.model.cls_head.in_channels = 256
    return build('mmaction', cfg.model)


@pytest.mark.parametrize('way', ['load_from', 'pretrained'])
def test_from_kinetics(way, tmp_path, capsys):
    """mmaction2's I3D for Kinetics-400 (narrow), as its Runner saves it."""
    theirs = build_narrow(Config.fromstring(f'_base_ = {I3D!r}', '.py'))
    state = randomize(theirs).state_dict()
    assert {
        'backbone.conv1.bn.running_mean',
        'backbone.layer1.0.conv1.conv.weight',
        'backbone.layer1.0.downsample.conv.weight',
        'backbone.layer1.0.downsample.bn.weight',
        'cls_head.fc_cls.weight',
    } <= state.keys()
    file = str(tmp_path / 'i3d_kinetics400.pth')
    torch.save(dict(meta=dict(epoch=100), state_dict=state), file)
    cfg = Config.fromfile(ROOT / 'configs/i3d_r50_cgnl_ucf101.py')
    if way == 'load_from':
        model = build_narrow(cfg)
        model.init_weights()
        load_checkpoint(model, file)  # as the Runner does
        report = capsys.readouterr().out
        assert 'size mismatch for cls_head.fc_cls.weight' in report
        assert 'layer1' not in report
    else:
        model = build_narrow(cfg, pretrained=file, pretrained2d=False)
        model.init_weights()
    ours = model.state_dict()
    assert ours['cls_head.fc_cls.weight'].shape == (101, 256)
    body = {k: v for k, v in state.items() if not k.startswith('cls_head.')}
    assert_same({k: ours[k] for k in body}, body)
    assert_fresh(model.backbone)
