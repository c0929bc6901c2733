"""Blocks train: what freezes, recomputes or compiles a backbone keeps its
meaning with blocks inserted."""

import pytest
import torch
from zoo import ZOO, each_network, first_block, loss_of, randomize

TWO = 'mmpretrain-ResNet18'
BN = dict(norm_cfg=dict(type='BN'))
# The last parameter of each kind of block starts at zero.
LAST = ('norm.weight', 'conv_out.bn.weight', 'channel_add_conv.3.weight')


@each_network
def test_one_step_leaves_identity(network):
    """Gradients arrive in every block; the zeroed norm leaves zero."""
    net = network.build(network.plugins)
    net.init_weights()
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_of(net, network.input()).backward()
    optimizer.step()
    for path in net.plugin_units:
        named = net.get_submodule(path).named_parameters()
        (last,) = [p for name, p in named if name in LAST]
        assert last.abs().max() > 0, path


@pytest.mark.parametrize(
    'name', [TWO, 'mmdet-ResNet50', 'mmaction-ResNet3d18', 'mmaction-ResNet50']
)
def test_with_cp(name):
    """Recomputation changes no gradient of a unit or a block."""
    network = ZOO[name]
    x = network.input()
    plain = network.build(network.plugins)
    net = network.build(network.plugins, with_cp=True)
    net.load_state_dict(randomize(plain).state_dict())
    for each in (plain, net):
        each.train()
        loss_of(each, x.clone().requires_grad_()).backward()
    compared = 0
    for (key, p), q in zip(plain.named_parameters(), net.parameters()):
        torch.testing.assert_close(p.grad, q.grad, msg=key)
        compared += p.grad.abs().max() > 0
    assert compared > len(plain.plugin_units) * 4


@each_network
def test_block_behind_frozen_stages_trains(network):
    last = len(network.after()) - 1
    plugin = network.plugin(*[()] * last, (0,))
    net = network.build([plugin], frozen_stages=last)
    net.train()
    loss_of(net, network.input()).backward()
    assert not any(p.requires_grad for p in net.layer1.parameters())
    _, block = first_block(net)
    assert all(p.requires_grad for p in block.parameters())
    assert block.norm.weight.grad.abs().max() > 0


@each_network
def test_allow_frozen(network):
    """A trained block may be frozen with its stage, from the first step."""
    plugin = dict(network.plugin((-1,), **BN), allow_frozen=True)
    net = network.build([plugin], frozen_stages=1)
    _, block = first_block(net)
    for _ in range(2):
        assert not any(p.requires_grad for p in block.parameters())
        assert not block.norm.training
        net.train()


@each_network
def test_norm_eval_warns_of_batch_norm(network, warnings_logged):
    # GroupNorm has no statistics to stop.
    network.build([network.plugin((), (-1,))], norm_eval=True)
    plugins = [network.plugin((), (-1,), **BN)]
    network.build(plugins, norm_eval=False)
    assert warnings_logged == []
    net = network.build(plugins, norm_eval=True)
    (warning,) = warnings_logged
    assert 'of layer2' in warning and 'norm_eval=False' in warning
    net.train()
    _, block = first_block(net)
    assert block.training and not block.norm.training


def test_partial_bn_freezes_no_group_norm():
    """TSN's partial_bn is an error for a BatchNorm of a block alone."""
    network = ZOO['mmaction-ResNet18']
    net = network.build([network.plugin((), (-1,))], partial_bn=True)
    net.train()
    assert all(p.requires_grad for p in net.layer2.cgnl_1.parameters())


SHORT = dict(num_stages=2, out_indices=(1,), dilations=(1, 1))
SHORT_2D = dict(SHORT, strides=(1, 2))
SHORT_3D = dict(SHORT, spatial_strides=(1, 2), temporal_strides=(1, 1))


@pytest.mark.parametrize(
    'name, settings',
    [
        (TWO, SHORT_2D),
        ('mmdet-ResNet50', SHORT_2D),
        ('mmaction-ResNet3d18', SHORT_3D),
        pytest.param('mmaction-ResNet3d50', {}, marks=pytest.mark.nightly),
    ],
)
def test_compile(name, settings):
    """One graph, with the results of eager mode, forward and backward."""
    network = ZOO[name]
    plugin = network.plugin((-1,), (-1, -2))
    if settings:
        plugin['after_blocks'] = plugin['after_blocks'][:2]
    net = randomize(network.build([plugin], **settings))
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
