"""Where blocks go, what they are called, and that the stock keys stay."""

import copy
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

R50 = 'mmaction-ResNet3d50'
BLOCK = dict(type='CGNL3d', groups=2)


def order(stage):
    """Names of the children in the order in which they are executed."""
    return ' '.join(name for name, _ in stage.named_children())


def test_author_position_r50(zoo):
    plugin = dict(cfg=BLOCK, after_blocks=((), (), (-2,), ()))
    net = zoo[R50].build([plugin])
    assert order(net.layer1) == '0 1 2'
    assert order(net.layer2) == '0 1 2 3'
    assert order(net.layer3) == '0 1 2 3 4 cgnl_4 5'
    assert order(net.layer4) == '0 1 2'
    assert net.plugin_units == {'layer3.cgnl_4': 4}


def test_author_position_r101(zoo):
    plugin = dict(cfg=BLOCK, after_blocks=((), (), (-2,), ()))
    net = zoo[R50].build([plugin], depth=101)
    assert order(net.layer3).endswith(' 20 21 cgnl_21 22')
    assert net.plugin_units == {'layer3.cgnl_21': 21}


def test_five_blocks_r50(zoo):
    plugin = dict(cfg=BLOCK, after_blocks=((), (1, 3), (1, 3, 5), ()))
    net = zoo[R50].build([plugin])
    assert order(net.layer2) == '0 1 cgnl_1 2 3 cgnl_3'
    assert order(net.layer3) == '0 1 cgnl_1 2 3 cgnl_3 4 5 cgnl_5'


def test_five_blocks_r101(zoo):
    plugin = dict(cfg=BLOCK, after_blocks=((), (1, 3), (6, 13, 20), ()))
    net = zoo[R50].build([plugin], depth=101)
    assert order(net.layer2) == '0 1 cgnl_1 2 3 cgnl_3'
    names = order(net.layer3).split()
    followers = [i for i, name in enumerate(names) if 'cgnl' in name]
    assert [names[i - 1] for i in followers] == ['6', '13', '20']
    assert [n for n in names if n.isdigit()] == [str(i) for i in range(23)]


def test_ten_blocks_r50(zoo):
    places = [[], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], []]
    net = zoo[R50].build([dict(cfg=BLOCK, after_blocks=places)])
    assert order(net.layer2) == '0 cgnl_0 1 cgnl_1 2 cgnl_2 3 cgnl_3'
    assert len(net.plugin_units) == 10


def test_order_of_units_does_not_matter(zoo):
    units = ((), (), (5, 1, -3), ())
    net = zoo[R50].build([dict(cfg=BLOCK, after_blocks=units)])
    assert order(net.layer3) == '0 1 cgnl_1 2 3 cgnl_3 4 5 cgnl_5'


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


@pytest.mark.parametrize('copied', ['deepcopy', 'pickle'])
def test_copies(network, randomize, outputs, copied):
    net = randomize(network.build(network.plugins))
    if copied == 'deepcopy':
        clone = copy.deepcopy(net)
    else:
        clone = pickle.loads(pickle.dumps(net))
    x = network.input()
    before = outputs(net, x)
    assert all(map(torch.equal, outputs(clone, x), before))

    # the copy initialises itself, not the original
    state = {k: v.clone() for k, v in net.state_dict().items()}
    clone.init_weights()
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not torch.equal(next(clone.parameters()), next(net.parameters()))
    path = next(iter(clone.plugin_units))
    assert clone.get_submodule(path) is not net.get_submodule(path)
