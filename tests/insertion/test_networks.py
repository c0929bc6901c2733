"""A block by config in stock networks: what holds for each of them."""

import copy
import pickle
from operator import attrgetter

import pytest
import torch
from networks import (
    FAST,
    NIGHTLY,
    PAGE,
    ZOO,
    assert_same,
    initialize,
    outputs,
    page,
)

from cgnl_mm.ops.torch_versions import TORCH

NETWORKS = [pytest.param(network, id=str(network)) for network in FAST]
NETWORKS += [
    pytest.param(network, id=str(network), marks=pytest.mark.nightly)
    for network in NIGHTLY
]
EXPORTS = attrgetter('exports')


@pytest.mark.parametrize('network', NETWORKS)
def test_a_block_by_config(network):
    """Keys, start, training, copies: the network is itself, and has a block.

    The twin without blocks starts from the same weights, and so does what is
    built after it.
    """
    twins, draws = [], []
    for net in network.twins():
        drawn = {k: v.clone() for k, v in net.state_dict().items()}
        initialize(net)
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

    def run(net):
        return outputs(network.part(net), x)

    for net in twins:
        net.eval()
    with torch.no_grad():
        before = run(stock)
        assert all(map(torch.equal, run(net), before))

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    sum(y.square().mean() for y in run(net)).backward()
    optimizer.step()
    assert net.get_submodule(network.path).norm.weight.any()

    # The copy computes the same, has its own block, and keeps it.
    twin = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    for each in (net, twin):
        each.eval()
    with torch.no_grad():
        trained = run(net)
        assert all(map(torch.equal, run(twin), trained))
        twin.get_submodule(network.path).norm.bias.fill_(1)
        assert all(map(torch.equal, run(net), trained))
        assert not all(map(torch.equal, run(twin), trained))
    own = {k: v.clone() for k, v in twin.state_dict().items() if k in block}
    for module in twin.modules():
        module._is_init = False
    initialize(twin)
    assert_same({k: twin.state_dict()[k] for k in block}, own)


@pytest.mark.nightly
@pytest.mark.skipif(TORCH < (2, 6), reason='an old torch.export takes others')
@pytest.mark.parametrize('network', filter(EXPORTS, ZOO.values()), ids=str)
def test_export(network):
    """torch.export takes the network with a block as it takes it without."""
    _, net = network.twins()
    initialize(net)
    net.eval()
    part, x = network.part(net), network.input()
    with torch.no_grad():
        start = outputs(part, x)
        net.get_submodule(network.path).norm.bias.fill_(1)
        expected = outputs(part, x)
        assert not all(map(torch.equal, expected, start))
        found = outputs(torch.export.export(part, (x,)).module(), x)
    torch.testing.assert_close(found, expected)


def test_page():
    """The table is the list; the command is in networks.py."""
    assert PAGE.read_text('utf-8') == page()
    assert len(ZOO) == len(FAST + NIGHTLY)
