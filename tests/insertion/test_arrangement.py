"""Blocks that see frames in the batch, tokens, and channels last."""

import pytest
import torch
from networks import ZOO, Network, outputs, plugin
from torch import nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d, insert_after

TSM = ZOO['mmaction-ResNetTSM-layer2.0']
VIT = Network(
    'mmpretrain', dict(type='VisionTransformer', arch='deit-tiny'), '', ''
)


@pytest.mark.parametrize(
    'block, keys, arrange, back, shape',
    [
        (
            CGNL3d(4, 2, norm_weight=1.0, init_std=1.0),
            dict(frames=3),
            lambda x: x.reshape(2, 3, 4, 5, 7).transpose(1, 2),
            lambda y: y.transpose(1, 2).reshape(6, 4, 5, 7),
            (6, 4, 5, 7),
        ),
        (
            CGNL1d(4, 2, norm_weight=1.0, init_std=1.0),
            dict(axes='BNC'),
            lambda x: x.transpose(1, 2),
            lambda y: y.transpose(1, 2),
            (2, 5, 4),
        ),
        (
            CGNL2d(4, 2, norm_weight=1.0, init_std=1.0),
            dict(axes='BSC'),
            lambda x: x.permute(0, 3, 1, 2),
            lambda y: y.permute(0, 2, 3, 1),
            (2, 5, 7, 4),
        ),
    ],
    ids=['frames', 'BNC', 'BSC'],
)
def test_as_by_hand(block, keys, arrange, back, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        expected = back(block(arrange(x)))
        net = nn.Sequential(nn.Identity())
        insert_after(net, '0', block, example=x, **keys)
        torch.testing.assert_close(net(x), expected)
        assert not torch.equal(net(x), x)


def test_by_config():
    entry = plugin('layer2.0', 'CGNL3d', frames=8)
    net, stock = TSM.build([entry]), TSM.build()
    stock.load_state_dict(net.state_dict(), strict=False)
    x = TSM.input()
    assert torch.equal(*map(torch.stack, (outputs(net, x), outputs(stock, x))))
    with pytest.raises(ValueError, match='3 maps, which are not whole clips'):
        net.layer2.cgnl_0(x[:3])
    entry = dict(plugin('layers.6', 'CGNL1d'), axes='BNC')
    net = VIT.build([entry])
    assert net.layers[6].cgnl.in_channels == 192
    (tokens,) = outputs(net, torch.randn(1, 3, 224, 224))
    assert tokens.shape == (1, 192)


@pytest.mark.parametrize('keys', [dict(frames='8'), dict(axes='BCN')])
def test_mistake(keys):
    with pytest.raises(ValueError, match='axes=.* must be .*frames='):
        TSM.build([plugin('layer2.0', 'CGNL3d', **keys)])
