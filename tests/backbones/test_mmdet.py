"""mmdet's own form of plugins, in the stock ResNet and in ours."""

import pytest
import torch

CGNL = dict(type='CGNL2d', groups=2)
INSIDE = dict(
    cfg=CGNL, stages=(False, True, True, False), position='after_conv3'
)


@pytest.fixture(params=['default', 'init_cfg*'])
def settings(request, zoo, tmp_path, randomize):
    network = zoo['mmdet-ResNet50']
    state = randomize(network.build(stock=True)).state_dict()
    torch.save(state, tmp_path / 'stock.pth')
    return network.init_settings(request.param, tmp_path / 'stock.pth')


def share(state, other):
    """State of ``other`` under the names that both have."""
    return {k: v for k, v in state.items() if k in other}


def blocks(net):
    return [m for m in net.modules() if type(m).__name__ == 'CGNL2d']


def test_stock_resnet(zoo, settings, outputs):
    """The block inside each unit's branch leaves the network as it was,
    after mmdet's own initialisation too, which resets every GroupNorm."""
    network = zoo['mmdet-ResNet50']
    net = network.build([INSIDE], stock=True, **settings)
    net.init_weights()
    assert len(blocks(net)) == 4 + 6
    for block in blocks(net):
        assert (block.norm.weight == 0).all()
        assert 0.005 < block.theta.weight.std() < 0.02

    plain = network.build(stock=True, **settings)
    missing, unexpected = plain.load_state_dict(net.state_dict(), strict=False)
    assert missing == [] and all('cgnl' in k for k in unexpected)
    x = network.input()
    assert all(map(torch.equal, outputs(net, x), outputs(plain, x)))


def test_both_forms_at_once(zoo, settings, outputs, assert_same):
    network = zoo['mmdet-ResNet50']
    after = dict(cfg=CGNL, after_blocks=((), (), (-2,), ()))
    torch.manual_seed(1)
    stock = network.build([INSIDE], stock=True, **settings)
    stock.init_weights()
    torch.manual_seed(1)
    net = network.build([after, INSIDE], **settings)
    net.init_weights()

    assert net.plugin_units == {'layer3.cgnl_4': 4}
    assert len(blocks(net)) == 1 + 10
    expected = stock.state_dict()
    assert_same(share(net.state_dict(), expected), expected)
    x = network.input()
    assert all(map(torch.equal, outputs(net, x), outputs(stock, x)))
    # each does something, in its place
    with torch.no_grad():
        net.layer3.cgnl_4.norm.weight.fill_(1)
    before = outputs(stock, x)
    after = outputs(net, x)
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[2], before[2])


def test_missing_stages_mean_all(zoo):
    """As in mmdet."""
    plugin = dict(cfg=CGNL, position='after_conv2')
    net = zoo['mmdet-ResNet50'].build([plugin])
    assert len(blocks(net)) == 16 and net.plugin_units == {}
