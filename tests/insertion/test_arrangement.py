"""Blocks that see frames in the batch, tokens, and channels last."""

import pytest
import torch
from networks import SWIN, SWIN_3D, VIT, ZOO, outputs, plugin
from torch import nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d, insert_after

TSM = ZOO['mmaction-ResNetTSM-layer2.0']
R18 = ZOO['mmpretrain-ResNet-layer3.-2']


@pytest.mark.parametrize('kind, keys, shape, arrange, back', [
    (CGNL3d, dict(frames=3), (6, 4, 5, 7),
        lambda x: x.reshape(2, 3, 4, 5, 7).transpose(1, 2),
        lambda y: y.transpose(1, 2).reshape(6, 4, 5, 7)),
    (CGNL1d, dict(axes='BNC'), (2, 5, 4),
        lambda x: x.transpose(1, 2), lambda y: y.transpose(1, 2)),
    (CGNL2d, dict(axes='BSC'), (2, 5, 7, 4),
        lambda x: x.permute(0, 3, 1, 2), lambda y: y.permute(0, 2, 3, 1)),
    (CGNL2d, dict(frames=3, flat=True), (6, 4, 5, 7),
        lambda x: x.reshape(2, 3, 4, 5, 7).transpose(1, 2).flatten(2, 3),
        lambda y: y.unflatten(2, (3, 5)).transpose(1, 2).flatten(0, 1)),
], ids=['frames', 'BNC', 'BSC', 'flat'])  # fmt: skip
def test_as_by_hand(kind, keys, shape, arrange, back):
    block = kind(4, 2, norm_weight=1.0, init_std=1.0)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = back(block(arrange(x)))
        net = nn.Sequential(nn.Identity())
        insert_after(net, '0', block, example=x, **keys)
        torch.testing.assert_close(net(x), expected)
        assert not torch.equal(net(x), x)
        assert net(x[:0]).shape == x[:0].shape


def test_by_config():
    entry = plugin('layer2.0', 'CGNL3d', frames=8)
    net, stock = TSM.build([entry]), TSM.build()
    stock.load_state_dict(net.state_dict(), strict=False)
    x = TSM.input()
    assert torch.equal(*map(torch.stack, (outputs(net, x), outputs(stock, x))))
    with pytest.raises(ValueError, match='3 maps, which are not whole clips'):
        net.layer2.cgnl_0(x[:3])


@pytest.mark.parametrize(
    'network, entry, message',
    [
        (VIT, plugin('layers.0', 'CGNL1d'), "stand last; give axes='BNC', or"),
        (SWIN_3D, plugin('layers.0.blocks.0', 'CGNL3d'), "give axes='BSC'"),
        (SWIN, plugin('stages.0.blocks.0', axes='BSC'), "give axes='BNC'"),
        (SWIN, plugin('stages.0'),
            "returns a tuple.*name 'stages.0.blocks.0', .* axes='BNC'"),
        (SWIN, plugin('stages.0.downsample'),
            "tuple.*name 'stages.0.downsample.reduction'"),
        (R18, plugin('layer3.0', axes='BSC'), 'does not fit; give no axes'),
    ],
    ids=['tokens', 'last', 'rank', 'stage', 'merging', 'maps'],
)  # fmt: skip
def test_axes_of_another_kind(network, entry, message):
    with pytest.raises(ValueError, match=message):
        network.build([entry])


def test_a_block_by_hand_gets_the_same_hint():
    net, x = VIT.build(), VIT.input()
    with pytest.raises(ValueError, match="not fit .*; give axes='BNC'"):
        insert_after(net, 'layers.0', CGNL1d(32, 2), example=x)
    # What is not said of the channels is up to the one who made the block.
    insert_after(net, 'layers.0', CGNL1d(17, 1, 1), example=x)


@pytest.mark.parametrize(
    'keys', [dict(frames='8'), dict(axes='BCN'), dict(flat=1)]
)
def test_mistake(keys):
    with pytest.raises(ValueError, match='axes=.* must be .*frames=.*flat='):
        TSM.build([plugin('layer2.0', 'CGNL3d', **keys)])
