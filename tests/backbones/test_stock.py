"""Without plugins, each backbone is its stock class, bit for bit."""

from importlib import import_module

import pytest
import torch
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

IMAGE, CLIP = (2, 3, 32, 32), (2, 3, 8, 16, 16)
ALL = (0, 1, 2, 3)
BN = dict(type='BN', requires_grad=True)
NOT_FROZEN = dict(norm_cfg=BN, norm_eval=False)
SMALL = dict(base_channels=16)
VIDEO = dict(SMALL, pretrained=None)
I3D = dict(VIDEO, depth=50, conv_cfg=dict(type='Conv3d'))
INFLATE = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
CASES = {
    'mmpretrain': [
        ('ResNet', dict(depth=18, out_indices=ALL)),
        ('ResNet', dict(depth=50, frozen_stages=2, norm_eval=True)),
        ('ResNet', dict(depth=50, style='caffe', with_cp=True)),
        ('ResNet', dict(depth=50, num_stages=3, strides=(1, 2, 1),
            dilations=(1, 1, 2), out_indices=(2,), drop_path_rate=0.1)),
        ('ResNetV1c', dict(depth=50)),
        ('ResNetV1d', dict(depth=50)),
        ('ResNeXt', dict(depth=50, groups=8, width_per_group=4)),
        ('SEResNet', dict(depth=50, se_ratio=8)),
    ],
    'mmdet': [
        ('ResNet', dict(depth=18, out_indices=ALL)),
        ('ResNet', dict(depth=50, frozen_stages=1)),
        ('ResNet', dict(depth=50, num_stages=3, strides=(1, 2, 2),
            dilations=(1, 1, 1), out_indices=(2,), style='caffe',
            **NOT_FROZEN)),
        ('ResNet', dict(depth=50, deep_stem=True, avg_down=True,
            with_cp=True)),
        ('ResNet', dict(depth=50, zero_init_residual=False)),
        ('ResNetV1d', dict(depth=50, frozen_stages=2)),
        ('ResNeXt', dict(depth=50, groups=8, base_width=4)),
    ],
    'mmaction': [
        ('ResNet', dict(depth=18, out_indices=ALL)),
        ('ResNet', dict(depth=50, partial_bn=True, frozen_stages=1)),
        ('ResNet3d', dict(I3D, inflate=INFLATE, out_indices=ALL)),
        ('ResNet3d', dict(I3D, inflate=INFLATE, inflate_style='3x3x3',
            with_pool2=False, frozen_stages=2, norm_eval=True)),
        ('ResNet3d', dict(I3D, depth=18, inflate=(1, 1, 1, 1),
            with_cp=True)),
        ('ResNet3dSlowOnly', dict(VIDEO, depth=50,
            conv1_kernel=(1, 7, 7), inflate=(0, 0, 1, 1))),
        ('ResNet2Plus1d', dict(VIDEO, depth=18,
            pretrained2d=False, conv1_kernel=(3, 7, 7),
            inflate=(1, 1, 1, 1), conv_cfg=dict(type='Conv2plus1d'),
            norm_cfg=dict(type='BN3d', requires_grad=True))),
        ('ResNet3dCSN', dict(VIDEO, depth=50,
            pretrained2d=False, bottleneck_mode='ir', with_pool2=False,
            norm_eval=True, bn_frozen=True)),
    ],
}  # fmt: skip


def cases():
    for host, rows in CASES.items():
        for number, (name, options) in enumerate(rows):
            if host != 'mmaction':
                options = dict(SMALL, **options)
            if host == 'mmpretrain':
                options['stem_channels'] = 16
            yield pytest.param(
                host, name, options, id=f'{host}-{name}-{number}'
            )


def build(host, name, options):
    registry = import_module(f'{host}.registry').MODELS
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host):
        net = registry.build(dict(options, type=name))
        net.init_weights()
    return net, torch.rand(1)


def look(net):
    """What training or freezing changes of a network."""
    return (
        [(name, p.requires_grad) for name, p in net.named_parameters()],
        [name for name, m in net.named_modules() if m.training],
        [
            (name, m.momentum, m.eps)
            for name, m in net.named_modules()
            if isinstance(m, _BatchNorm)
        ],
    )


def run(net, x):
    """Outputs, and the gradients of all that is trained."""
    torch.manual_seed(1)
    out = net(x)
    out = out if isinstance(out, (tuple, list)) else (out,)
    sum(y.square().mean() for y in out).backward()
    grads = {
        name: p.grad
        for name, p in net.named_parameters()
        if p.grad is not None
    }
    return {**dict(enumerate(out)), **grads, **dict(net.named_buffers())}


@pytest.mark.parametrize('host, name, options', cases())
def test_same_as_stock(host, name, options):
    stock, draw = build(host, name, options)
    ours, our_draw = build(host, f'Plugin{name}', options)
    assert torch.equal(draw, our_draw)  # whatever is built next
    expected, state = stock.state_dict(), ours.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[k], expected[k]) for k in expected)
    rank = 5 if '3d' in name or '2Plus1d' in name else 4
    x = torch.randn(CLIP if rank == 5 else IMAGE)
    for mode in (True, False):
        for net in (ours, stock):
            net.train(mode)
        assert look(ours) == look(stock)
        found, wanted = run(ours, x), run(stock, x)
        assert list(found) == list(wanted)
        different = [k for k in wanted if not torch.equal(found[k], wanted[k])]
        assert not different
