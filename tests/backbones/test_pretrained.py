"""Checkpoints in their original formats start networks with blocks.

torchvision's, mmpretrain's and mmaction2's are made by the hosts' own
classes; which init_cfg loads what with our own names is in test_init.py.
"""

from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import nn

from cgnl_mm.backbones.plugins import PluginMixin

NIGHTLY = pytest.mark.nightly
ROOT = Path(__file__).parents[2]
I3D = (
    'mmaction::recognition/i3d/'
    'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py'
)


def plugins(rank, block='CGNL', **settings):
    cfg = dict(type=f'{block}{rank}d', **settings)
    if block == 'CGNL':
        cfg.setdefault('groups', 2)
    return [dict(cfg=cfg, after_blocks=((), (), (-2,), ()))]


def only_block(net):
    (path,) = net.plugin_units
    return path, net.get_submodule(path)


def assert_inflated(net, state_2d):
    """Every convolution holds the 2D kernel, spread over its frames."""
    convs = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv3d) and 'cgnl' not in name
    }
    assert len(convs) == len([v for v in state_2d.values() if v.dim() == 4])
    for name, conv in convs.items():
        name = name.replace('downsample.conv', 'downsample.0')
        weight = state_2d[name.removesuffix('.conv') + '.weight']
        frames = conv.weight.shape[2]
        for frame in conv.weight.unbind(2):
            assert torch.allclose(frame * frames, weight, atol=1e-6)
    norm = net.layer3[-1].conv2.bn
    for name, value in norm.state_dict().items():
        last = [k for k in net.layer3._modules if k.isdigit()][-1]
        assert torch.equal(value, state_2d[f'layer3.{last}.bn2.{name}'])


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory):
    """torchvision's own network and its file."""
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


FULL = dict(base_channels=64, out_indices=(3,))


@pytest.mark.parametrize(
    'host, form',
    [
        ('mmpretrain', 'mmpretrain'),
        ('mmdet', 'torchvision'),
        pytest.param('mmpretrain', 'torchvision', marks=NIGHTLY),
        pytest.param('mmdet', 'mmpretrain', marks=NIGHTLY),
    ],
)
def test_2d(host, form, zoo, resnet18, tmp_path, outputs):
    theirs, file = resnet18
    init_cfg = dict(type='Pretrained', checkpoint=str(file))
    settings = dict(FULL)
    if host == 'mmpretrain':
        settings['stem_channels'] = 64
    if form == 'mmpretrain':
        classifier = zoo['mmpretrain-ResNet18'].build_any(
            dict(
                type='ImageClassifier',
                backbone=dict(type='ResNet', depth=18),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead', num_classes=1000, in_channels=512
                ),
            )
        )
        state = theirs.state_dict()
        for name in ('weight', 'bias'):
            classifier.head.fc.register_parameter(
                name, nn.Parameter(state.pop(f'fc.{name}'))
            )
        classifier.backbone.load_state_dict(state, strict=True)
        file = tmp_path / 'resnet18_8xb32_in1k.pth'
        state = classifier.state_dict()
        assert {'backbone.bn1.weight', 'head.fc.weight'} <= state.keys()
        torch.save(dict(meta=dict(epoch=1), state_dict=state), file)
        init_cfg.update(checkpoint=str(file), prefix='backbone.')

    net = zoo[f'{host}-ResNet18'].build(
        plugins(2), init_cfg=init_cfg, **settings
    )
    net.init_weights()
    x = torch.randn(1, 3, 32, 32)
    body = nn.Sequential(*list(theirs.children())[:-2])
    (ours,) = outputs(net, x)
    (expected,) = outputs(body, x)
    assert expected.std() > 0.1
    # mmdet and mmpretrain run the same operators
    assert torch.equal(ours, expected)


def test_tsn_from_torchvision(zoo, resnet18, outputs):
    theirs, file = resnet18
    net = zoo['mmaction-ResNet18'].build(
        plugins(2),
        pretrained=str(file),
        num_stages=4,
        out_indices=(3,),
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
    )
    net.init_weights()
    x = torch.randn(1, 3, 32, 32)
    body = nn.Sequential(*list(theirs.children())[:-2])
    assert torch.equal(outputs(net, x)[0], outputs(body, x)[0])


def test_inflation_from_torchvision(zoo, resnet18, warnings_logged):
    theirs, file = resnet18
    net = zoo['mmaction-ResNet3d18'].build(
        plugins(3), base_channels=64, pretrained=str(file)
    )
    before = {k: v.clone() for k, v in only_block(net)[1].state_dict().items()}
    net.init_weights()
    assert_inflated(net, theirs.state_dict())
    path, block = only_block(net)
    assert all(map(torch.equal, block.state_dict().values(), before.values()))
    x = torch.randn(2, 256, 2, 4, 4)
    assert torch.equal(block(x), x)
    assert warnings_logged == []


@pytest.fixture
def trained_2d(zoo, tmp_path, randomize):
    """A narrow R-50 of mmpretrain, with a block or without, and its file:
    that of the backbone alone, or with a prefix that of a model."""

    def make(plugins=None, prefix=''):
        net = randomize(zoo['mmpretrain-ResNet50'].build(plugins))
        state = {f'{prefix}{k}': v for k, v in net.state_dict().items()}
        if prefix:
            state['head.fc.weight'] = torch.ones(10, 256)
            state = dict(meta=dict(epoch=1), state_dict=state)
        torch.save(state, tmp_path / '2d.pth')
        net.eval()
        return net, str(tmp_path / '2d.pth')

    return make


@pytest.mark.parametrize(
    'name, prefix',
    [
        ('ResNet3d50', ''),
        ('ResNet3dSlowOnly50', 'backbone.'),
        pytest.param('ResNet3d50', 'backbone.', marks=NIGHTLY),
        pytest.param('ResNet3dSlowOnly50', '', marks=NIGHTLY),
    ],
)
def test_inflation_from_mmpretrain(
    name, prefix, zoo, trained_2d, warnings_logged
):
    net_2d, file = trained_2d(prefix=prefix)
    net = zoo[f'mmaction-{name}'].build(plugins(3), pretrained=file)
    net.init_weights()
    assert_inflated(net, net_2d.state_dict())
    x = torch.randn(2, 128, 2, 4, 4)
    assert torch.equal(only_block(net)[1](x), x)
    assert warnings_logged == []


BN, BN3D = dict(norm_cfg=dict(type='BN')), dict(norm_cfg=dict(type='BN3d'))


@pytest.mark.parametrize(
    ('block', 'settings', 'settings_3d', 'prefix'),
    [
        ('CGNL', {}, {}, ''),
        ('CGNL', BN, {}, 'backbone.'),
        ('CGNL', dict(mode='learnable'), {}, 'backbone.'),
        ('NonLocal', BN, BN3D, ''),
        ('NonLocal', BN, BN3D, 'backbone.'),
        pytest.param('CGNL', {}, {}, 'backbone.', marks=NIGHTLY),
        pytest.param('CGNL', BN, {}, '', marks=NIGHTLY),
        pytest.param('CGNL', dict(mode='learnable'), {}, '', marks=NIGHTLY),
    ],
)
def test_a_2d_block_inflates(
    block, settings, settings_3d, prefix, zoo, trained_2d, warnings_logged
):
    """Fine-tuned on images with a block, then on video with the same."""
    net_2d, file = trained_2d(plugins(2, block, **settings), prefix)
    net = zoo['mmaction-ResNet3d50'].build(
        plugins(3, block, **{**settings, **settings_3d}), pretrained=file
    )
    net.init_weights()
    trained = only_block(net_2d)[1].state_dict()
    inflated = only_block(net)[1].state_dict()
    assert inflated.keys() == trained.keys()
    for key, value in trained.items():
        if value.dim() == 4:
            value = value[:, :, None]
        assert torch.equal(inflated[key], value), key
    assert warnings_logged == []


def test_a_larger_kernel_inflates_to_frames_that_add_up_to_it():
    from cgnl_mm.backbones.mmaction import _inflate_block

    block, block_2d = nn.Conv3d(2, 3, (2, 5, 5)), nn.Conv2d(2, 3, 5)
    _inflate_block(block, block_2d.state_dict(), 'layer3.conv_4')
    assert torch.equal(block.weight[:, :, 0], block_2d.weight / 2)
    assert torch.equal(block.weight.sum(2), block_2d.weight)
    assert torch.equal(block.bias, block_2d.bias)


def test_a_2d_block_that_does_not_fit(zoo, trained_2d, warnings_logged):
    _, file = trained_2d(plugins(2, groups=4))
    net = zoo['mmaction-ResNet3d50'].build(
        plugins(3, groups=2, mode='learnable'), pretrained=file
    )
    path, block = only_block(net)
    kept = block.conv_out.weight.clone()
    net.init_weights()
    state = torch.load(file, weights_only=True)
    assert torch.equal(
        block.theta.weight[:, :, 0], state[f'{path}.theta.weight']
    )
    assert torch.equal(block.conv_out.weight, kept)
    (warning,) = warnings_logged
    assert warning.startswith(path)
    assert warning.endswith(': coefficients, conv_out.weight')


@pytest.mark.parametrize(
    'name, kind',
    [
        ('ResNet3d50', 'gaussian_rbf'),
        ('ResNet3dSlowOnly50', 'dot_product'),
        pytest.param('ResNet3d50', 'dot_product', marks=NIGHTLY),
        pytest.param('ResNet3dSlowOnly50', 'gaussian_rbf', marks=NIGHTLY),
    ],
)
def test_2d_case_of_a_3d_backbone(name, kind, zoo, trained_2d, outputs):
    """One frame through kernels of one frame: the 2D network."""
    net_2d, file = trained_2d(plugins(2, mode=kind))
    net = zoo[f'mmaction-{name}'].build(
        plugins(3, mode=kind),
        pretrained=file,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        with_pool2=False,
        inflate=(0, 0, 0, 0),
    )
    net.init_weights()
    x = torch.randn(2, 3, 64, 64)
    (expected,) = outputs(net_2d, x)
    (ours,) = outputs(net, x[:, :, None])
    assert expected.std() > 0
    assert torch.allclose(
        ours[:, :, 0], expected, rtol=0, atol=1e-5 * expected.abs().max()
    )
    # and the block has its share in it
    with torch.no_grad():
        only_block(net)[1].norm.weight.zero_()
    (other,) = outputs(net, x[:, :, None])
    assert (other - ours).abs().max() > 1e-2 * ours.abs().max()


def narrow(cfg):
    cfg.model.backbone.update(base_channels=8, pretrained=None)
    cfg.model.cls_head.in_channels = 256
    return cfg


@pytest.fixture
def kinetics(zoo, tmp_path, randomize):
    """mmaction2's I3D for Kinetics-400 (narrow), as its Runner saves it."""
    cfg = narrow(Config.fromfile(_resolved(I3D)))
    model = randomize(zoo['mmaction-ResNet3d50'].build_any(cfg.model))
    state = model.state_dict()
    assert {
        'backbone.conv1.bn.running_mean',
        'backbone.layer1.0.conv1.conv.weight',
        'backbone.layer1.0.downsample.conv.weight',
        'backbone.layer1.0.downsample.bn.weight',
        'cls_head.fc_cls.weight',
    } <= state.keys()
    file = tmp_path / 'i3d_kinetics400.pth'
    torch.save(dict(meta=dict(epoch=100), state_dict=state), file)
    return state, str(file)


def _resolved(path):
    """'mmaction::...' as a file: what _base_ would read."""
    import mmaction

    folder = Path(mmaction.__file__).parent / '.mim' / 'configs'
    return str(folder / path.removeprefix('mmaction::'))


def ours_for_ucf101(zoo):
    cfg = narrow(Config.fromfile(ROOT / 'configs/i3d_r50_cgnl_ucf101.py'))
    return zoo['mmaction-ResNet3d50'].build_any(cfg.model)


def load_from(model, file):
    """Start as the Runner does, with load_from=FILE in the config."""
    model.init_weights()
    load_checkpoint(model, file)


def test_from_kinetics(kinetics, zoo, capsys):
    """400 classes to 101: the body is loaded, the head is reported."""
    state, file = kinetics
    model = ours_for_ucf101(zoo)
    load_from(model, file)
    ours = model.state_dict()
    body = [k for k in state if not k.startswith('cls_head.')]
    assert all(torch.equal(ours[k], state[k]) for k in body)
    assert ours['cls_head.fc_cls.weight'].shape == (101, 256)
    report = capsys.readouterr().out
    assert 'size mismatch for cls_head.fc_cls.weight' in report
    assert 'layer1' not in report
    x = torch.randn(1, 128, 2, 4, 4)
    assert torch.equal(only_block(model.backbone)[1](x), x)


def test_from_our_own_model(zoo, tmp_path, randomize, assert_same):
    """Blocks that the checkpoint holds are loaded."""
    trained = randomize(ours_for_ucf101(zoo)).state_dict()
    file = tmp_path / 'ours.pth'
    torch.save(dict(meta=dict(epoch=1), state_dict=trained), file)
    model = ours_for_ucf101(zoo)
    load_from(model, str(file))
    assert_same(model.state_dict(), trained)


@pytest.mark.parametrize('form', ['model', 'backbone'])
def test_3d_without_inflation(form, kinetics, zoo, tmp_path, assert_same):
    """pretrained2d=False: the backbone of mmaction2's I3D, as it is."""
    state, file = kinetics
    body = {
        k.removeprefix('backbone.'): v
        for k, v in state.items()
        if k.startswith('backbone.')
    }
    if form == 'backbone':
        file = str(tmp_path / 'backbone.pth')
        torch.save(body, file)
    cfg = narrow(Config.fromfile(ROOT / 'configs/i3d_r50_cgnl_ucf101.py'))
    cfg.model.backbone.update(pretrained=file, pretrained2d=False)
    model = zoo['mmaction-ResNet3d50'].build_any(cfg.model)
    model.init_weights()
    assert isinstance(model.backbone, PluginMixin)
    ours = model.backbone.state_dict()
    path, block = only_block(model.backbone)
    assert_same({k: v for k, v in ours.items() if path not in k}, body)
    x = torch.randn(1, 128, 2, 4, 4)
    assert torch.equal(block(x), x)
