"""Where blocks go, what they are called, and that the stock keys stay."""

import copy
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

R50 = 'mmaction-ResNet3d50'
BLOCK = dict(type='CGNL3d', groups=2)


# places in layer2 and layer3, the order in which the children there run
PLACES = {
    "the author's position": (50, (), (-2,), '0 1 2 3', '0 1 2 3 4 B4 5'),
    "the author's position in R-101": (
        101, (), (-2,), '0 1 2 3',
        '0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 B21 22',
    ),
    'five blocks': (
        50, (1, 3), (1, 3, 5), '0 1 B1 2 3 B3', '0 1 B1 2 3 B3 4 5 B5',
    ),
    'five blocks in R-101': (
        101, (1, 3), (6, 13, 20), '0 1 B1 2 3 B3',
        '0 1 2 3 4 5 6 B6 7 8 9 10 11 12 13 B13 14 15 16 17 18 19 20 B20 21 '
        '22',
    ),
    'ten blocks': (
        50, [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], '0 B0 1 B1 2 B2 3 B3',
        '0 B0 1 B1 2 B2 3 B3 4 B4 5 B5',
    ),
    'units in another order': (
        50, (), (5, 1, -3), '0 1 2 3', '0 1 B1 2 3 B3 4 5 B5',
    ),
}  # fmt: skip


def order(stage):
    """Names of the children in the order in which they are executed."""
    return ' '.join(name for name, _ in stage.named_children())


@pytest.mark.parametrize('place', PLACES)
def test_places(zoo, place):
    depth, *units, layer2, layer3 = PLACES[place]
    plugin = dict(cfg=BLOCK, after_blocks=((), *units, ()))
    net = zoo[R50].build([plugin], depth=depth)
    assert order(net.layer1) == order(net.layer4) == '0 1 2'
    assert order(net.layer2) == layer2.replace('B', 'cgnl_')
    assert order(net.layer3) == layer3.replace('B', 'cgnl_')
    assert net.plugin_units == {
        f'layer{stage}.cgnl_{name[1:]}': int(name[1:])
        for stage, names in ((2, layer2), (3, layer3))
        for name in names.split()
        if name[0] == 'B'
    }


def test_two_blocks_after_one_unit(zoo):
    """In the order of the config; a postfix tells twins apart."""
    place = ((), (), (1,), ())
    net = zoo[R50].build(
        [
            dict(cfg=dict(BLOCK, postfix='b'), after_blocks=place),
            dict(cfg=dict(type='NonLocal3d'), after_blocks=place),
            dict(cfg=dict(BLOCK, postfix='a'), after_blocks=place),
        ]
    )
    inserted = 'cgnlb_1 non_local3d_1 cgnla_1'
    assert order(net.layer3) == f'0 1 {inserted} 2 3 4 5'
    assert set(net.plugin_units.values()) == {1}


def test_plugin_dicts_are_not_changed(zoo):
    plugins = [
        ConfigDict(
            cfg=dict(BLOCK, postfix='a', in_channels=128),
            after_blocks=((), (), (1,), ()),
        )
    ]
    before = copy.deepcopy(plugins)
    zoo[R50].build(plugins)
    assert plugins == before


def test_any_registered_block(zoo, outputs):
    """A block class without any convolution fits as well."""

    class Halve(nn.Module):
        def __init__(self, in_channels):
            super().__init__()

        def forward(self, x):
            return x / 2

    network = zoo['mmpretrain-ResNet18']
    plugin = dict(cfg=dict(type=Halve), after_blocks=((), (), (), (-1,)))
    net, stock = network.build([plugin]), network.build(stock=True)
    stock.load_state_dict(net.state_dict())
    x = network.input()
    assert torch.equal(outputs(net, x)[0], outputs(stock, x)[0] / 2)


def test_executed_between_units(network, randomize):
    """A block sees the unit's output after its ReLU, the next unit the
    block's, and all children run in the order of their stage."""
    net = randomize(network.build(network.plugins))
    ran = []
    for name, module in net.named_modules():
        if name.startswith('layer') and name.count('.') == 1:
            module.register_forward_hook(
                lambda _, x, y, name=name: ran.append((name, x[0], y))
            )
    net.eval()  # the hosts' eval() returns None
    net(network.input())

    children = [
        f'layer{i}.{name}'
        for i in range(1, len(network.units) + 1)
        for name, _ in getattr(net, f'layer{i}').named_children()
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
        assert not torch.equal(x, y)  # and the block does something


def test_stock_checkpoint_loads_strictly(network, assert_same):
    """No stock key is renamed; what is missing are the blocks' own."""
    stock = network.build(stock=True).state_dict()
    net = network.build(network.plugins)
    result = net.load_state_dict(stock, strict=False)
    assert result.unexpected_keys == []
    blocks = [
        f'{path}.{key}'
        for path in net.plugin_units
        for key in net.get_submodule(path).state_dict()
        if 'num_batches' not in key  # torch does not miss it
    ]
    assert sorted(result.missing_keys) == sorted(blocks)
    loaded = net.state_dict()
    assert_same({k: loaded[k] for k in stock}, stock)


def test_without_plugins_is_the_stock_class(network, assert_same):
    for plugins in (None, []):
        torch.manual_seed(0)
        stock = network.build(stock=True)
        torch.manual_seed(0)
        net = network.build(plugins)
        assert net.plugin_units == {}
        assert_same(net.state_dict(), stock.state_dict())
        assert str(net).split('\n')[1:] == str(stock).split('\n')[1:]


def test_blocks_draw_from_their_own_stream(zoo):
    """Blocks differ from each other and from seed to seed, and come back
    with the seed."""
    network = zoo['mmpretrain-ResNet18']
    cfg = dict(type='CGNL2d', groups=2)
    plugin = dict(cfg=cfg, after_blocks=((0, 1), (), (), ()))

    def thetas(seed):
        torch.manual_seed(seed)
        net = network.build([plugin])
        return [b.theta.weight for b in (net.layer1.cgnl_0, net.layer1.cgnl_1)]

    first, second = thetas(1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, thetas(2)[0])
    assert torch.equal(first, thetas(1)[0])


def test_copies(network, randomize, outputs):
    net = randomize(network.build(network.plugins))
    x = network.input()
    before = outputs(net, x)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    path = next(iter(net.plugin_units))
    for clone in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(map(torch.equal, outputs(clone, x), before))
        # the copy initialises itself, not the original
        clone.init_weights()
        assert all(
            torch.equal(v, state[k]) for k, v in net.state_dict().items()
        )
        first = next(clone.parameters()), next(net.parameters())
        assert not torch.equal(*first)
        assert clone.get_submodule(path) is not net.get_submodule(path)
