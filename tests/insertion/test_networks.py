"""A block by config in stock networks: what holds for each of them."""

import copy
import pickle

import pytest
import torch
from networks import FAST, NIGHTLY, assert_same, outputs

NETWORKS = [pytest.param(network, id=str(network)) for network in FAST]
NETWORKS += [
    pytest.param(network, id=str(network), marks=pytest.mark.nightly)
    for network in NIGHTLY
]


@pytest.mark.parametrize('network', NETWORKS)
def test_a_block_by_config(network):
    """Keys, start, training, copies: the network is itself, and has a block.

    The twin without blocks starts from the same weights, and so does what is
    built after it.
    """
    twins, draws = [], []
    for plugins in (None, [network.entry]):
        torch.manual_seed(1)
        net = network.build(copy.deepcopy(plugins))
        drawn = {k: v.clone() for k, v in net.state_dict().items()}
        net.init_weights()
        twins.append(net)
        draws.append(torch.rand(4))
    stock, net = twins
    assert torch.equal(*draws)
    state, expected = net.state_dict(), stock.state_dict()
    block = {k: v for k, v in state.items() if k.startswith(network.path)}
    assert len(block) == 6
    assert_same(state, {**expected, **{k: drawn[k] for k in block}})
    assert not block[f'{network.path}.norm.weight'].any()

    x = network.input()
    for net in twins:
        net.eval()
    with torch.no_grad():
        before = outputs(stock, x)
        assert all(map(torch.equal, outputs(net, x), before))

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    sum(y.square().mean() for y in outputs(net, x)).backward()
    optimizer.step()
    assert net.get_submodule(network.path).norm.weight.any()

    # The copy computes the same, has its own block, and keeps it.
    twin = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    for each in (net, twin):
        each.eval()
    with torch.no_grad():
        trained = outputs(net, x)
        assert all(map(torch.equal, outputs(twin, x), trained))
        twin.get_submodule(network.path).norm.bias.fill_(1)
        assert all(map(torch.equal, outputs(net, x), trained))
        assert not all(map(torch.equal, outputs(twin, x), trained))
    own = {k: v.clone() for k, v in twin.state_dict().items() if k in block}
    for module in twin.modules():
        module._is_init = False
    twin.init_weights()
    assert_same({k: twin.state_dict()[k] for k in block}, own)
