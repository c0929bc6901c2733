"""Without plugins, each backbone is its stock class, bit for bit."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from zoo import ZOO, as_tuple, assert_same

ALL = (0, 1, 2, 3)
THREE = dict(num_stages=3, out_indices=(2,))
FREE = dict(type='BN3d', requires_grad=True)
INFLATE = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
# Settings besides those of the zoo; a network that is not here has none.
OPTIONS = {
    'mmpretrain-ResNet18': dict(out_indices=ALL, frozen_stages=2),
    'mmpretrain-ResNet50': dict(THREE, strides=(1, 2, 1), style='caffe',
        dilations=(1, 1, 2), drop_path_rate=0.1, with_cp=True),
    'mmpretrain-ResNetV1c18': dict(depth=50, norm_eval=True),
    'mmpretrain-ResNetV1d18': dict(depth=50),
    'mmdet-ResNet18': dict(norm_eval=True, zero_init_residual=False),
    'mmdet-ResNet50': dict(THREE, strides=(1, 2, 2), style='caffe',
        dilations=(1, 1, 1), deep_stem=True, avg_down=True, with_cp=True),
    'mmdet-ResNetV1d18': dict(depth=50, frozen_stages=2),
    'mmdet-ResNeXt50': dict(norm_eval=True, frozen_stages=1),
    'mmaction-ResNet18': dict(num_stages=4, out_indices=ALL,
        strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
    'mmaction-ResNet50': dict(partial_bn=True, frozen_stages=1),
    'mmaction-ResNet3d50': dict(inflate=INFLATE, inflate_style='3x3x3',
        with_pool2=False, frozen_stages=2, norm_eval=True, out_indices=ALL),
    'mmaction-ResNet3d18': dict(with_cp=True),
    'mmaction-ResNet3dSlowOnly50': dict(conv1_kernel=(1, 7, 7),
        inflate=(0, 0, 1, 1)),
    'mmaction-ResNet2Plus1d18': dict(conv1_kernel=(3, 7, 7), norm_cfg=FREE),
    'mmaction-ResNet3dCSN50': dict(bottleneck_mode='ir', with_pool2=False,
        norm_eval=True, bn_frozen=True),
}  # fmt: skip


def build(network, *plugins, **options):
    torch.manual_seed(0)
    net = network.build(*plugins, **options)
    net.init_weights()
    return net, torch.rand(1)


def state_of_training(net):
    """Give what training or freezing changes of a network."""
    modules = list(net.named_modules())
    norms = [(k, m) for k, m in modules if isinstance(m, _BatchNorm)]
    return (
        [(name, p.requires_grad) for name, p in net.named_parameters()],
        [name for name, module in modules if module.training],
        [(name, norm.momentum, norm.eps) for name, norm in norms],
    )


def run(net, x):
    """Give the outputs, and the gradients of all that is trained."""
    torch.manual_seed(1)
    out = as_tuple(net(x))
    sum(y.square().mean() for y in out).backward()
    named = net.named_parameters()
    grads = {name: p.grad for name, p in named if p.grad is not None}
    return {**dict(enumerate(out)), **grads, **dict(net.named_buffers())}


@pytest.mark.parametrize('name', ZOO)
def test_same_as_stock(name):
    network, options = ZOO[name], OPTIONS.get(name, {})
    stock, draw = build(network, **options)
    ours, our_draw = build(network, [], **options)
    assert type(ours) is not type(stock) and ours.plugin_units == {}
    assert str(ours).split('\n')[1:] == str(stock).split('\n')[1:]
    assert torch.equal(draw, our_draw)  # whatever is built next
    expected, state = stock.state_dict(), ours.state_dict()
    assert list(state) == list(expected)
    assert_same(state, expected)
    frames = (8, 16, 16) if network.rank == 3 else (32, 32)
    x = torch.randn(2, 3, *frames)
    for mode in (True, False):
        for net in (ours, stock):
            net.train(mode)
        assert state_of_training(ours) == state_of_training(stock)
        found, wanted = run(ours, x), run(stock, x)
        assert list(found) == list(wanted)
        assert_same(found, wanted)
