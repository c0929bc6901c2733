"""Blocks train: what freezes, recomputes or compiles a backbone keeps its
meaning with blocks inserted."""

import pytest
import torch

TWO = 'mmpretrain-ResNet18'


def plugin(*after_blocks, rank=2, **cfg):
    return dict(
        cfg=dict(type=f'CGNL{rank}d', groups=2, **cfg),
        after_blocks=after_blocks,
    )


def loss_of(net, x):
    y = net(x)
    y = y if isinstance(y, tuple) else (y,)
    return sum(each.square().mean() for each in y)


def test_one_step_leaves_identity(network):
    """Gradients arrive in every block; the zeroed norm leaves zero."""
    torch.manual_seed(0)
    net = network.build(network.plugins)
    net.init_weights()
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_of(net, network.input()).backward()
    optimizer.step()
    for path in net.plugin_units:
        last = [
            p
            for name, p in net.get_submodule(path).named_parameters()
            if name in ('norm.weight', 'conv_out.bn.weight')
            or name == 'channel_add_conv.3.weight'
        ]
        assert len(last) == 1 and last[0].abs().max() > 0, path


@pytest.mark.parametrize(
    'name', [TWO, 'mmdet-ResNet50', 'mmaction-ResNet3d18', 'mmaction-ResNet50']
)
def test_with_cp(zoo, randomize, name):
    """Recomputation changes no gradient of a unit or a block."""
    network = zoo[name]
    torch.manual_seed(0)
    x = network.input()
    nets = [network.build(network.plugins, with_cp=cp) for cp in (False, True)]
    randomize(nets[0])
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        net.train()
        loss_of(net, x.clone().requires_grad_()).backward()
    compared = 0
    for (key, p), q in zip(nets[0].named_parameters(), nets[1].parameters()):
        torch.testing.assert_close(p.grad, q.grad, msg=key)
        compared += p.grad.abs().max() > 0
    assert compared > len(nets[0].plugin_units) * 4


def test_block_behind_frozen_stages_trains(network):
    last = len(network.units) - 1
    places = [()] * last + [(0,)]
    net = network.build(
        [plugin(*places, rank=network.rank)], frozen_stages=last
    )
    net.train()
    loss_of(net, network.input()).backward()
    frozen = [p for p in net.layer1.parameters() if p.requires_grad]
    assert frozen == []
    block = net.get_submodule(next(iter(net.plugin_units)))
    assert all(p.requires_grad for p in block.parameters())
    assert block.norm.weight.grad.abs().max() > 0


def test_allow_frozen(network):
    """A trained block may be frozen with its stage, from the first step."""
    norm_cfg = dict(type='BN')
    frozen = plugin(
        *network.after((-1,)), rank=network.rank, norm_cfg=norm_cfg
    )
    net = network.build([dict(frozen, allow_frozen=True)], frozen_stages=1)
    block = net.get_submodule(next(iter(net.plugin_units)))
    for _ in range(2):
        assert not any(p.requires_grad for p in block.parameters())
        assert not block.norm.training
        net.train()


def test_norm_eval_warns_of_batch_norm(network, warnings_logged):
    rank = network.rank
    places = network.after((), (-1,))
    network.build([plugin(*places, rank=rank)], norm_eval=True)
    assert warnings_logged == []  # GroupNorm has no statistics to stop

    batch_norm = plugin(*places, rank=rank, norm_cfg=dict(type='BN'))
    network.build([batch_norm], norm_eval=False)
    assert warnings_logged == []
    net = network.build([batch_norm], norm_eval=True)
    assert len(warnings_logged) == 1
    assert 'of layer2' in warnings_logged[0]
    assert 'norm_eval=False' in warnings_logged[0]
    net.train()
    block = net.get_submodule(next(iter(net.plugin_units)))
    assert block.training and not block.norm.training


def test_partial_bn_freezes_no_group_norm(zoo):
    """TSN's partial_bn is an error for a BatchNorm of a block alone."""
    network = zoo['mmaction-ResNet18']
    net = network.build([plugin((), (-1,))], partial_bn=True)
    net.train()
    assert all(p.requires_grad for p in net.layer2.cgnl_1.parameters())


SHORT = dict(num_stages=2, out_indices=(1,), dilations=(1, 1))
SHORT_2D = dict(SHORT, strides=(1, 2))
SHORT_3D = dict(SHORT, spatial_strides=(1, 2), temporal_strides=(1, 1))
nightly = pytest.mark.nightly


@pytest.mark.parametrize(
    'name, settings',
    [
        (TWO, SHORT_2D),
        ('mmdet-ResNet18', SHORT_2D),
        ('mmaction-ResNet3d18', SHORT_3D),
        pytest.param('mmpretrain-ResNet50', {}, marks=nightly),
        pytest.param('mmdet-ResNet50', {}, marks=nightly),
        pytest.param('mmaction-ResNet3d50', {}, marks=nightly),
    ],
)
def test_compile(zoo, randomize, name, settings):
    """One graph, with the results of eager mode, forward and backward."""
    network = zoo[name]
    torch.manual_seed(0)
    places = ((-1,), (-1, -2), (), ())[: settings.get('num_stages')]
    plugins = [plugin(*places, rank=network.rank)]
    net = randomize(network.build(plugins, **settings))
    net.eval()
    x = network.input()
    results = []
    torch._dynamo.reset()
    for run in (net, torch.compile(net, backend='aot_eager', fullgraph=True)):
        net.zero_grad()
        loss = loss_of(run, x)
        loss.backward()
        grads = {k: p.grad.clone() for k, p in net.named_parameters()}
        results.append(dict(grads, loss=loss.detach()))
    eager, ours = results
    for key in eager:
        torch.testing.assert_close(ours[key], eager[key], msg=key)
    for path in net.plugin_units:
        assert eager[f'{path}.theta.weight'].abs().max() > 0
