"""A fresh network with blocks is the network without them, bit for bit, by
whatever way the host initialises it; a checkpoint may hold blocks."""

import pytest
import torch
from zoo import (
    ZOO,
    assert_same,
    build,
    each_network,
    each_way,
    first_block,
    outputs,
    randomize,
    torchvision_names,
)


def of_blocks(net, prefix=''):
    """Give the part of the state dict that belongs to blocks."""
    return {
        f'{prefix}{key}': value.clone()
        for key, value in net.state_dict().items()
        if key.startswith(tuple(f'{path}.' for path in net.plugin_units))
    }


@each_way()
def test_identity_at_start(network, init, tmp_path, warnings_logged):
    """No stock key is renamed; what the network has more are its blocks."""
    is_foreign = init in ('torchvision*', 'inflated*')
    file = randomize(network.build()).state_dict()
    if is_foreign:
        file = torchvision_names(file)
    torch.save(file, tmp_path / 'stock.pth')
    settings = network.init_settings(init, tmp_path / 'stock.pth')

    torch.manual_seed(1)
    stock = network.build(**settings)
    stock.init_weights()
    next_draw = torch.rand(4)
    warned = len(warnings_logged)

    torch.manual_seed(1)
    net = network.build(network.plugins, **settings)
    built = of_blocks(net)
    net.init_weights()

    # A head that is built later starts from the same weights.
    assert torch.equal(torch.rand(4), next_draw)
    state = net.state_dict()
    assert len(built) >= 6
    assert_same(state, {**stock.state_dict(), **built})
    # The host warns of nothing new, but for missing keys where it loads.
    new = [m for m in warnings_logged[warned:] if 'missing keys' not in m]
    assert len(new) <= warned
    if '*' in init:
        loaded = torchvision_names(state) if is_foreign else state
        for key, value in file.items():
            if value.dim() > 1:  # some hosts reset norms after loading
                assert torch.allclose(loaded[key], value), key

    x = network.input()
    assert all(map(torch.equal, outputs(net, x), outputs(stock, x)))
    net.train()
    stock.train()
    assert all(map(torch.equal, net(x), stock(x)))


@each_way('init_cfg*', 'list*', 'argument*')
def test_checkpoint_with_blocks(network, init, tmp_path):
    """Trained blocks come back from the checkpoint; of those that it holds
    in part, the rest stays as built."""
    net = network.build(network.plugins)
    trained = randomize(net).state_dict()
    every, paths = of_blocks(net).keys(), tuple(net.plugin_units)
    some = {f'{paths[0]}.theta.weight', f'{paths[0]}.norm.bias'}
    assert some < every
    for held in (every, some):
        saved = {k: v for k, v in trained.items() if k not in every - held}
        torch.save(saved, tmp_path / 'trained.pth')
        settings = network.init_settings(init, tmp_path / 'trained.pth')
        net = network.build(network.plugins, **settings)
        expected = {**of_blocks(net), **{k: trained[k] for k in held}}
        net.init_weights()
        assert_same(of_blocks(net), expected)


@each_network
def test_init_cfg_of_a_block(network):
    """The block's own init_cfg is obeyed, though the host never sees it."""
    layer = f'Conv{network.rank}d'
    init_cfg = dict(type='Constant', layer=layer, val=0.5)
    torch.manual_seed(1)
    net = network.build([network.plugin((), (-1,), init_cfg=init_cfg)])
    net.init_weights()
    drawn = torch.rand(4)
    _, block = first_block(net)
    for conv in (block.theta, block.phi, block.g, block.conv_out):
        assert (conv.weight == 0.5).all()
    assert (block.norm.weight == 0).all()

    torch.manual_seed(1)
    network.build().init_weights()
    assert torch.equal(torch.rand(4), drawn)


@each_network
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
    'mmpretrain-ResNet18': dict(
        type='ImageClassifier',
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
    ),
    'mmaction-ResNet3d18': dict(
        type='Recognizer3D',
        cls_head=dict(type='I3DHead', num_classes=3, in_channels=64),
    ),
    'mmdet-ResNet18': dict(
        type='SingleStageDetector',
        neck=dict(
            type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5
        ),
        bbox_head=dict(type='RPNHead', in_channels=8, feat_channels=8),
    ),
}


@pytest.mark.parametrize('saved', [None, 'stock', 'with blocks'])
@pytest.mark.parametrize('name', MODELS)
def test_whole_model(name, saved, tmp_path):
    """The Runner calls model.init_weights(), which may load a checkpoint."""
    network = ZOO[name]

    def make_twins():
        for plugins in (None, network.plugins):
            torch.manual_seed(2)
            cfg = dict(MODELS[name], backbone=network.config(plugins))
            yield build(network.host, cfg), torch.rand(1)

    state = init_cfg = None
    if saved:
        (trained, _) = list(make_twins())[saved != 'stock']
        state = randomize(trained).state_dict()
        file = str(tmp_path / 'trained.pth')
        torch.save(dict(state_dict=state, meta={}), file)
        init_cfg = dict(type='Pretrained', checkpoint=file)
    (stock, next_draw), (model, draw) = make_twins()
    assert draw == next_draw
    built = of_blocks(model.backbone, 'backbone.')
    draws = []
    for each in (stock, model):
        # mmaction's recognizers do not take it as an argument.
        each.init_cfg = init_cfg
        torch.manual_seed(3)
        each.init_weights()
        draws.append(torch.rand(1))
    assert draws[0] == draws[1]
    expected = {**stock.state_dict(), **built, **(state or {})}
    assert_same(model.state_dict(), expected)
    if saved == 'stock':
        assert_same(stock.state_dict(), state)
