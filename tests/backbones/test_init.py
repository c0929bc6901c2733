"""A fresh network with blocks is the network without them, bit for bit, by
whatever way the host initialises it; a checkpoint may hold blocks."""

import re

import pytest
import torch


def torchvision_names(state):
    """2D weights, named as torchvision does, for a network of mmaction."""
    renamed = {}
    for key, value in state.items():
        key = key.replace('downsample.conv.', 'downsample.0.')
        key = key.replace('downsample.bn.', 'downsample.1.')
        key = re.sub(r'(conv\d)\.conv\.', r'\1.', key)
        key = re.sub(r'conv(\d)\.bn\.', r'bn\1.', key)
        renamed[key] = value.sum(2) if value.dim() == 5 else value
    return renamed


def of_blocks(net, prefix=''):
    """The part of the state dict that belongs to blocks."""
    return {
        f'{prefix}{key}': value.clone()
        for key, value in net.state_dict().items()
        if key.startswith(tuple(f'{path}.' for path in net.plugin_units))
    }


@pytest.fixture
def stock_file(tmp_path, network, randomize):
    """Checkpoint of the stock twin, trained one might think."""

    def save(init):
        state = randomize(network.build(stock=True)).state_dict()
        if init in ('torchvision*', 'inflated*'):
            state = torchvision_names(state)
        torch.save(state, tmp_path / 'stock.pth')
        return tmp_path / 'stock.pth'

    return save


def test_identity_at_start(
    network, init, stock_file, outputs, assert_same, warnings_logged
):
    file = stock_file(init)
    settings = network.init_settings(init, file)

    torch.manual_seed(1)
    stock = network.build(stock=True, **settings)
    stock.init_weights()
    next_draw = torch.rand(4)
    warned = len(warnings_logged)

    torch.manual_seed(1)
    net = network.build(network.plugins, **settings)
    built = of_blocks(net)
    net.init_weights()

    # a head that is built later starts from the same weights
    assert torch.equal(torch.rand(4), next_draw)
    expected = stock.state_dict()
    state = net.state_dict()
    assert len(built) >= 6
    assert_same(of_blocks(net), built)
    assert_same({k: state[k] for k in expected}, expected)
    # the host warns of nothing new, but for missing keys where it loads
    new = [m for m in warnings_logged[warned:] if 'missing keys' not in m]
    assert len(new) <= warned

    x = network.input()
    assert all(map(torch.equal, outputs(net, x), outputs(stock, x)))
    net.train()
    stock.train()
    ours, theirs = net(x), stock(x)
    assert all(map(torch.equal, ours, theirs))

    if '*' in init:  # and the file was read
        file = torch.load(file, weights_only=True)
        key = next(k for k in file if re.match(r'layer1.1.conv1.*weight', k))
        ours = state.get(key)
        if ours is None:
            ours = state[key.replace('conv1.', 'conv1.conv.')]
        if init == 'inflated*':
            ours = ours.sum(2)
        assert torch.allclose(ours, file[key])


def test_checkpoint_with_blocks(
    network, loading, tmp_path, randomize, assert_same
):
    """Trained blocks come back from the checkpoint; of those that it holds
    in part, the rest stays as built."""
    file = tmp_path / 'trained.pth'
    net = network.build(network.plugins)
    trained = randomize(net).state_dict()
    every, paths = of_blocks(net).keys(), tuple(net.plugin_units)
    some = {f'{paths[0]}.theta.weight', f'{paths[0]}.norm.bias'}
    assert some < every
    for held in (every, some):
        saved = {
            k: v
            for k, v in trained.items()
            if k in held or not k.startswith(paths)
        }
        torch.save(saved, file)
        settings = network.init_settings(loading, file)
        net = network.build(network.plugins, **settings)
        expected = {**of_blocks(net), **{k: trained[k] for k in held}}
        net.init_weights()
        assert_same(of_blocks(net), expected)


def test_init_cfg_of_a_block(network):
    """The block's own init_cfg is obeyed, though the host never sees it."""
    rank = network.rank
    init_cfg = dict(type='Constant', layer=f'Conv{rank}d', val=0.5)
    cfg = dict(type=f'CGNL{rank}d', groups=2, init_cfg=init_cfg)
    places = network.after((), (-1,))
    torch.manual_seed(1)
    net = network.build([dict(cfg=cfg, after_blocks=places)])
    net.init_weights()
    drawn = torch.rand(4)
    block = net.get_submodule(next(iter(net.plugin_units)))
    for conv in (block.theta, block.phi, block.g, block.conv_out):
        assert (conv.weight == 0.5).all()
    assert (block.norm.weight == 0).all()

    torch.manual_seed(1)
    network.build(stock=True).init_weights()
    assert torch.equal(torch.rand(4), drawn)


def test_failed_init_leaves_the_network_whole(network, tmp_path):
    """A missing checkpoint is an error, not a network without blocks."""
    way = 'argument*' if network.host == 'mmaction' else 'init_cfg*'
    settings = network.init_settings(way, tmp_path / 'absent.pth')
    net = network.build(network.plugins, **settings)
    before = [name for name, _ in net.named_modules()]
    with pytest.raises(FileNotFoundError):
        net.init_weights()
    assert [name for name, _ in net.named_modules()] == before
    assert len(net._load_state_dict_pre_hooks) == 0
    assert len(net._load_state_dict_post_hooks) == 0


MODELS = {
    'mmpretrain-ResNet18': lambda backbone: dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
    ),
    'mmaction-ResNet3d18': lambda backbone: dict(
        type='Recognizer3D',
        backbone=backbone,
        cls_head=dict(type='I3DHead', num_classes=3, in_channels=64),
    ),
    'mmaction-ResNet18': lambda backbone: dict(
        type='Recognizer2D',
        backbone=backbone,
        cls_head=dict(type='TSNHead', num_classes=3, in_channels=128),
    ),
    'mmdet-ResNet18': lambda backbone: dict(
        type='RetinaNet',
        backbone=backbone,
        neck=dict(
            type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=3,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[4, 8, 16, 32, 64],
            ),
        ),
    ),
}


@pytest.fixture(params=MODELS)
def twins(request, zoo):
    """Build a whole model, stock and with blocks, with a model's init_cfg."""
    network = zoo[request.param]

    def build(init_cfg=None):
        models = []
        for backbone in (
            network.config(stock=True),
            network.config(network.plugins),
        ):
            torch.manual_seed(2)
            cfg = MODELS[request.param](backbone)
            models.append(network.build_any(cfg))
            models[-1].next_draw = torch.rand(1)
            # mmaction's recognizers do not take it as an argument
            models[-1].init_cfg = init_cfg
        return models

    return build


def test_whole_model(twins, assert_same):
    """The way of the Runner: model.init_weights()."""
    draws = []
    stock, model = twins()
    built = of_blocks(model.backbone, 'backbone.')
    for each in (stock, model):
        torch.manual_seed(3)
        each.init_weights()
        draws.append(torch.rand(1))
    assert draws[0] == draws[1]
    assert stock.next_draw == model.next_draw
    assert_same(model.state_dict(), {**stock.state_dict(), **built})


@pytest.mark.parametrize('saved', ['stock', 'with blocks'])
def test_whole_model_from_checkpoint(
    twins, saved, tmp_path, randomize, assert_same
):
    file = tmp_path / 'trained.pth'
    state = randomize(twins()[saved != 'stock']).state_dict()
    torch.save(dict(state_dict=state, meta={}), file)
    stock, model = twins(dict(type='Pretrained', checkpoint=str(file)))
    expected = {**of_blocks(model.backbone, 'backbone.'), **state}
    model.init_weights()
    assert_same(model.state_dict(), expected)
    if saved == 'stock':
        stock.init_weights()
        assert_same(stock.state_dict(), state)
