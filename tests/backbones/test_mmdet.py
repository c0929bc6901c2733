"""mmdet's own form of plugins, in the stock ResNet and in ours."""

import pytest
import torch
from zoo import ZOO, assert_same, outputs, randomize

NETWORK = ZOO['mmdet-ResNet50']
CGNL = dict(type='CGNL2d', groups=2)
INSIDE = dict(
    cfg=CGNL, stages=(False, True, True, False), position='after_conv3'
)


@pytest.fixture(params=['default', 'init_cfg*'])
def make(request, tmp_path):
    """Build and initialise the network, from scratch or from a file."""
    torch.save(randomize(NETWORK.build()).state_dict(), tmp_path / 'stock.pth')
    way = NETWORK.init_settings(request.param, tmp_path / 'stock.pth')

    def run(plugins=None, **settings):
        torch.manual_seed(1)
        net = NETWORK.build(plugins, **way, **settings)
        net.init_weights()
        return net

    return run


def blocks(net):
    return [m for m in net.modules() if type(m).__name__ == 'CGNL2d']


def test_stock_resnet(make):
    """The block inside each unit's branch leaves the network as it was,
    after mmdet's own initialisation too, which resets every GroupNorm."""
    net, plain = make([INSIDE], type='ResNet'), make()
    assert len(blocks(net)) == 4 + 6
    for block in blocks(net):
        assert (block.norm.weight == 0).all()
        assert 0.005 < block.theta.weight.std() < 0.02
    missing, unexpected = plain.load_state_dict(net.state_dict(), strict=False)
    assert missing == [] and all('cgnl' in k for k in unexpected)
    x = NETWORK.input()
    assert all(map(torch.equal, outputs(net, x), outputs(plain, x)))


def test_both_forms_at_once(make):
    stock = make([INSIDE], type='ResNet')
    net = make([NETWORK.plugin((), (), (-2,)), INSIDE])
    assert net.plugin_units == {'layer3.cgnl_4': 4}
    assert len(blocks(net)) == 1 + 10
    expected, state = stock.state_dict(), net.state_dict()
    assert_same({k: state[k] for k in expected}, expected)
    x = NETWORK.input()
    before = outputs(stock, x)
    assert all(map(torch.equal, outputs(net, x), before))
    # Our block does something, in its place.
    torch.nn.init.ones_(net.layer3.cgnl_4.norm.weight)
    after = outputs(net, x)
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[2], before[2])


def test_missing_stages_mean_all():
    """As in mmdet."""
    net = NETWORK.build([dict(cfg=CGNL, position='after_conv2')])
    assert len(blocks(net)) == 16 and net.plugin_units == {}
