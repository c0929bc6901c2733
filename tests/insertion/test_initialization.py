"""Whatever a host initialises, a block keeps its start, or is loaded."""

import copy

import pytest
import torch
from mmcv import cnn  # before cgnl_mm, which mends it
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from networks import ZOO, assert_same, build, outputs, plugin, randomize
from torch import nn

from cgnl_mm import CGNL2d, CGNL3d, insert_after
from cgnl_mm.insertion.initialization import named_blocks

R18 = ZOO['mmpretrain-ResNet-layer3.-2']
I3D = ZOO['mmaction-ResNet3d-layer3.-2']
X3D = ZOO['mmaction-X3D-layer3.-2']  # initialises all by itself
FPN = ZOO['mmdet-FPN-fpn_convs.0']
KAIMING = dict(type='Kaiming', layer=['Conv2d', 'Conv3d', 'GroupNorm'])


def of_blocks(net):
    """Copy the state of the blocks, by full names."""
    paths = [path for path, _ in named_blocks(net)]
    return {
        key: value.clone()
        for key, value in net.state_dict().items()
        if any(key.startswith(f'{path}.') for path in paths)
    }


def model_of(network, plugins=None):
    """Make a whole model that initialises all of its convolutions."""
    kind, head = 'ImageClassifier', 'head'
    if network.host == 'mmaction':
        kind, head = 'Recognizer3D', 'cls_head'
    heads = dict(head='LinearClsHead', cls_head='I3DHead')
    backbone = dict(network.cfg)
    if plugins:
        backbone['plugins'] = plugins
    cfg = dict(type=kind, backbone=backbone)
    cfg[head] = dict(type=heads[head], num_classes=3, in_channels=64)
    model = build(network.host, cfg)
    model.init_cfg = KAIMING  # not an argument of mmaction's recognizers
    return model


@pytest.mark.parametrize('network', [R18, I3D], ids=str)
def test_model_that_initialises_all(network):
    model = model_of(network, [network.entry])
    before = of_blocks(model)
    model.init_weights()
    assert len(before) == 6
    assert_same(of_blocks(model), before)
    assert_same(of_blocks(copy.deepcopy(model)), before)


@pytest.mark.parametrize(
    'network, width', [(R18, 32), (I3D, 32), (X3D, 96), (FPN, 8)], ids=str
)
def test_insert_after_and_then_the_hosts_initialisation(network, width):
    """The Runner calls init_weights of whatever model it gets."""
    net = network.build()
    block = CGNL3d if network in (I3D, X3D) else CGNL2d
    norm_cfg = dict(type='BN')  # the hosts reset every batch norm
    insert_after(net, network.after, block(width, 2, norm_cfg=norm_cfg))
    before = of_blocks(net)
    net.init_weights()
    assert_same(of_blocks(net), before)


def test_insert_after_in_a_part_of_a_model():
    model = model_of(R18)
    insert_after(model.backbone, 'layer3.-2', CGNL2d(32, 2))
    before = of_blocks(model)
    model.init_weights()
    assert_same(of_blocks(model), before)


@pytest.mark.parametrize('network', [R18, I3D], ids=str)
def test_checkpoints(network, tmp_path, warnings_logged):
    """A checkpoint without blocks leaves them new, in silence; what it holds
    of them is loaded."""
    trained = randomize(network.build([network.entry])).state_dict()
    block = {key for key in trained if key.startswith(network.path)}
    for held in (set(), {sorted(block)[-1]}, block):
        saved = {k: v for k, v in trained.items() if k not in block - held}
        file = str(tmp_path / 'trained.pth')
        torch.save(saved, file)
        settings = dict(init_cfg=dict(type='Pretrained', checkpoint=file))
        if network is I3D:
            settings = dict(pretrained=file, pretrained2d=False)
        net = network.build([network.entry], **settings)
        expected = {**of_blocks(net), **{k: trained[k] for k in held}}
        warnings_logged.clear()
        net.init_weights()
        assert_same(of_blocks(net), expected)
        body = {k: v for k, v in net.state_dict().items() if k not in block}
        assert_same(body, {k: trained[k] for k in body})
        assert bool(warnings_logged) == (len(held) == 1)
        net.load_state_dict(trained)  # strict


def test_failed_initialisation_leaves_the_network_whole():
    loading = dict(type='Pretrained', checkpoint='no.pth')
    net = R18.build([R18.entry], init_cfg=loading)
    before = [name for name, _ in net.named_modules()]
    with pytest.raises(FileNotFoundError):
        net.init_weights()
    assert [name for name, _ in net.named_modules()] == before
    assert not net.layer3._load_state_dict_pre_hooks


def test_init_cfg_of_a_block():
    """It is obeyed, and what is drawn afterwards stays the same."""
    draws = []
    for val in (0.5, None):
        entry = plugin('layer3.0')
        if val:
            init_cfg = dict(type='Constant', layer='Conv2d', val=val)
            entry['cfg']['init_cfg'] = init_cfg
        torch.manual_seed(1)
        net = R18.build([entry])
        net.init_weights()
        draws.append(torch.rand(1))
        block = net.layer3.cgnl_0
        assert (block.theta.weight == 0.5).all() == bool(val)
        assert not block.norm.weight.any()
    assert draws[0] == draws[1]


def test_blocks_draw_from_their_own_stream():
    """Blocks differ from each other and from seed to seed."""

    def thetas(seed):
        torch.manual_seed(seed)
        layer = R18.build([plugin('layer1.*')]).layer1
        return layer.cgnl_0.theta.weight, layer.cgnl_1.theta.weight

    first, second = thetas(1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, thetas(2)[0])
    assert torch.equal(first, thetas(1)[0])


def test_frozen_places():
    """A trained block may be frozen, at once; behind them, blocks train."""
    bn = dict(type='CGNL2d', groups=2, norm_cfg=dict(type='BN'))
    entry = dict(cfg=bn, after='layer1.0', allow_frozen=True)
    net = R18.build([entry, plugin('layer2.0')], frozen_stages=1)
    for _ in range(2):
        frozen = net.layer1.cgnl_0
        assert not any(p.requires_grad for p in frozen.parameters())
        assert not frozen.norm.training
        assert all(p.requires_grad for p in net.layer2.cgnl_0.parameters())
        assert net.layer2.training
        net.train()
    with pytest.warns(UserWarning, match='norm_eval=True.* BatchNorm'):
        R18.build([dict(cfg=bn, after='layer2.0')], norm_eval=True)


SGD = dict(type='SGD', lr=1.0, weight_decay=0.1)


def rates_of(model):
    constructor = LearningRateDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=SGD),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    groups = constructor(model).optimizer.param_groups
    return {group['param_name']: group['lr'] for group in groups}


@pytest.mark.parametrize(
    'cfg, after, paths',
    [
        (dict(type='ResNet', depth=50), 'layer3.*', 'layer3.{}.conv1.weight'),
        (
            dict(type='ConvNeXt', arch='small'),
            'stages.2.*',
            'stages.2.{}.gamma',
        ),
    ],
)
def test_layer_decay(cfg, after, paths):
    """A block counts as its unit; the rates of all others stay."""
    rates = []
    for plugins in ({}, dict(plugins=[plugin(after)])):
        head = dict(type='LinearClsHead', num_classes=3, in_channels=768)
        backbone = dict(cfg, **plugins)
        model = dict(type='ImageClassifier', backbone=backbone, head=head)
        rates.append(rates_of(build('mmpretrain', model)))
    assert rates[0].items() <= rates[1].items()
    compared = set()
    for key in rates[1].keys() - rates[0].keys():
        rest = key.partition('.cgnl_')[2]
        unit = paths.format(rest.split('.')[0])
        assert rates[1][key] == rates[1][f'backbone.{unit}']
        compared.add(rates[1][key])
    assert len(compared) > 1  # blocks stand on both sides of a step


def test_what_rewrites_layers_keeps_the_block():
    """Recomputation, fused and synchronised batch norms compute the same."""
    x = R18.input()
    entry = plugin('layer3.0')
    entry['cfg']['norm_cfg'] = dict(type='BN')
    net = randomize(R18.build([entry]))
    recomputing = R18.build([entry], with_cp=True)
    recomputing.load_state_dict(net.state_dict())
    grads = []
    for each in (net, recomputing):
        each.train()
        outputs(each, x)[0].square().mean().backward()
        grads.append(each.layer3.cgnl_0.theta.weight.grad)
    torch.testing.assert_close(*grads)
    assert grads[0].any()
    net.eval()
    expected = outputs(net, x)
    for rewrite in (
        cnn.fuse_conv_bn,
        lambda n: revert_sync_batchnorm(convert_sync_batchnorm(n)),
    ):
        twin = rewrite(copy.deepcopy(net))
        twin.eval()
        torch.testing.assert_close(outputs(twin, x), expected)


def test_fused_around_blocks():
    """Behind a convolution, its batch norm, and between the two in order."""
    after = ['conv1', 'bn1', 'layer2.0.downsample.0', 'layer3.0.bn2']
    net, x = randomize(R18.build([plugin(after)])), R18.input()
    net.eval()
    with torch.no_grad():
        expected = outputs(net, x)
        fused = cnn.fuse_conv_bn(net)
        torch.testing.assert_close(outputs(fused, x), expected)
    assert len(list(named_blocks(fused))) == 4
    kept = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(kept) == 3


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_layer_decay_of_a_hosts_own_constructor(host):
    """A block has the rate of the unit before it."""
    optimizers = pytest.importorskip(f'{host}.engine.optimizers')
    convnext = dict(
        type='ConvNeXt', arch='tiny', plugins=[plugin('stages.2.*')]
    )
    model = nn.Module()
    model.backbone = build('mmpretrain', convnext)
    constructor = optimizers.LearningRateDecayOptimizerConstructor(
        dict(type='OptimWrapper', optimizer=SGD),
        paramwise_cfg=dict(decay_rate=0.5, num_layers=6),
    )
    rates = {
        name: group['lr']
        for group in constructor(model).optimizer.param_groups
        for name in group['param_names']
    }
    stage, found = 'backbone.stages.2', set()
    for unit in range(9):
        rate = rates[f'{stage}.{unit}.gamma']
        assert rates[f'{stage}.cgnl_{unit}.theta.weight'] == rate
        found.add(rate)
    assert len(found) == 3
