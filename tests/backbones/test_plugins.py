"""Where blocks go, what they are called, and that the stock keys stay."""

import copy
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn
from zoo import ZOO, assert_same, each_network, first_block, outputs, randomize

R50 = ZOO['mmaction-ResNet3d50']
# Depth, places in layer2 and layer3, and the units that blocks then follow.
PLACES = {
    "the author's position": (50, (), (-2,), (), (4,)),
    "the author's position in R-101": (101, (), (-2,), (), (21,)),
    'five blocks': (50, (1, 3), (1, 3, 5), (1, 3), (1, 3, 5)),
    'five in R-101': (101, (1, 3), (6, 13, 20), (1, 3), (6, 13, 20)),
    'ten blocks': (50, [*range(4)], [*range(6)], range(4), range(6)),
    'another order': (50, (), (5, 1, -3), (), (1, 3, 5)),
}


def order(stage):
    """Name the children in the order in which they are executed."""
    return [name for name, _ in stage.named_children()]


@pytest.mark.parametrize('place', PLACES)
def test_places(place):
    depth, layer2, layer3, *followed = PLACES[place]
    net = R50.build([R50.plugin((), layer2, layer3)], depth=depth)
    units = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    paths = {}
    for stage, total, behind in zip(
        ('layer1', 'layer2', 'layer3', 'layer4'), units, ((), *followed, ())
    ):
        expected = []
        for unit in range(total):
            expected.append(str(unit))
            if unit in behind:
                expected.append(f'cgnl_{unit}')
                paths[f'{stage}.cgnl_{unit}'] = unit
        assert order(getattr(net, stage)) == expected
    assert net.plugin_units == paths


def test_two_blocks_after_one_unit():
    """They keep the config's order, and a postfix tells twins apart."""
    place = ((), (), (1,))
    plugins = [
        ConfigDict(R50.plugin(*place, postfix='b', in_channels=128)),
        dict(cfg=dict(type='NonLocal3d'), after_blocks=R50.after(*place)),
        R50.plugin(*place, postfix='a'),
    ]
    before = copy.deepcopy(plugins)
    net = R50.build(plugins)
    inserted = ['cgnlb_1', 'non_local3d_1', 'cgnla_1']
    assert order(net.layer3) == ['0', '1', *inserted, '2', '3', '4', '5']
    assert set(net.plugin_units.values()) == {1}
    assert plugins == before


def test_any_registered_block():
    """A block class without any convolution fits as well."""

    class Halve(nn.Module):
        def __init__(self, in_channels):
            super().__init__()

        def forward(self, x):
            return x / 2

    network = ZOO['mmpretrain-ResNet18']
    plugin = dict(cfg=dict(type=Halve), after_blocks=((), (), (), (-1,)))
    net, stock = network.build([plugin]), network.build()
    stock.load_state_dict(net.state_dict())
    x = network.input()
    assert torch.equal(outputs(net, x)[0], outputs(stock, x)[0] / 2)


@each_network
def test_executed_between_units(network):
    """A block sees the unit's output after its ReLU, the next unit the
    block's, and all children run in the order of their stage."""
    net = randomize(network.build(network.plugins))
    ran = []
    for name, module in net.named_modules():
        if name.startswith('layer') and name.count('.') == 1:
            module.register_forward_hook(
                lambda _, x, y, name=name: ran.append((name, x[0], y))
            )
    outputs(net, network.input())

    children = [
        f'{stage}.{name}'
        for stage in net.res_layers
        for name in order(net.get_submodule(stage))
    ]
    assert [name for name, _, _ in ran] == children
    for (before, _, y), (name, x, _) in zip(ran, ran[1:]):
        if before.split('.')[0] == name.split('.')[0]:
            assert x is y, (before, name)
    seen = {name: (x, y) for name, x, y in ran}
    assert len(net.plugin_units) >= 5
    for path, unit in net.plugin_units.items():
        before = children[: children.index(path)]
        follows = [name for name in before if name not in net.plugin_units][-1]
        assert follows == f'{path.split(".")[0]}.{unit}'
        assert (seen[follows][1] >= 0).all()  # after the ReLU
        x, y = seen[path]
        assert not torch.equal(x, y)  # the block does something


def test_blocks_draw_from_their_own_stream():
    """Blocks differ from each other and from seed to seed, and come back
    with the seed."""
    network = ZOO['mmpretrain-ResNet18']

    def thetas(seed):
        torch.manual_seed(seed)
        stage = network.build([network.plugin((0, 1))]).layer1
        return stage.cgnl_0.theta.weight, stage.cgnl_1.theta.weight

    first, second = thetas(1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, thetas(2)[0])
    assert torch.equal(first, thetas(1)[0])


@each_network
def test_copies(network):
    net = randomize(network.build(network.plugins))
    x = network.input()
    before = outputs(net, x)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    for clone in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(map(torch.equal, outputs(clone, x), before))
        # The copy initialises itself, not the original.
        clone.init_weights()
        assert_same(net.state_dict(), state)
        assert not torch.equal(
            next(clone.parameters()), next(net.parameters())
        )
        assert first_block(clone)[1] is not first_block(net)[1]
