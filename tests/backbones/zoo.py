"""Define a small network for each plugin backbone, and shared helpers."""

import re
from dataclasses import dataclass
from importlib import import_module

import pytest
import torch
from mmengine.registry import DefaultScope

import cgnl_mm  # noqa: F401  registers the backbones


@dataclass
class Network:
    """A plugin backbone and its stock twin, built as a config builds them.

    ``fast`` are the ways to initialise it that the fast tier tries.
    """

    host: str
    name: str
    settings: dict
    rank: int
    fast: tuple

    def __str__(self):
        return f'{self.host}-{self.name}{self.settings["depth"]}'

    def config(self, plugins=None, **settings):
        """Give the dict of the network; without plugins, of its twin."""
        cfg = dict(self.settings, type=self.name)
        if plugins is not None:
            cfg.update(type=f'Plugin{self.name}', plugins=plugins)
        return {**cfg, **settings}

    def build(self, plugins=None, **settings):
        return build(self.host, self.config(plugins, **settings))

    def input(self):
        return torch.randn(2, 3, *(2, 16, 16)[3 - self.rank :])

    def after(self, *stages):
        """Pad or cut after_blocks to the stages of this network."""
        return (stages + ((),) * 4)[: self.settings.get('num_stages', 4)]

    def plugin(self, *stages, **cfg):
        """Insert a CGNL block behind units of these stages."""
        cfg = {'type': f'CGNL{self.rank}d', 'groups': 2, **cfg}
        return dict(cfg=cfg, after_blocks=self.after(*stages))

    @property
    def plugins(self):
        """Insert every kind of block, two of them after one unit."""
        non_local = dict(norm_cfg=dict(type=f'BN{self.rank}d'))
        context = dict(type='ContextBlock', ratio=1 / 4)
        plugins = [
            self.plugin((0, -1), (-2,)),
            dict(
                cfg=dict(type=f'NonLocal{self.rank}d', **non_local),
                after_blocks=self.after((), (0, -1)),
            ),
            dict(cfg=context, after_blocks=self.after((-1,), (-1,))),
        ]
        return plugins if self.rank == 2 else plugins[:2]

    def init_settings(self, init, file):
        """Give the arguments that initialise the network in a way."""
        loading = dict(type='Pretrained', checkpoint=str(file))
        kaiming = dict(type='Kaiming', layer=['Conv2d'], bias=1)
        foreign = 'torchvision_pretrain' if self.rank == 2 else 'pretrained2d'
        own = {foreign: False} if self.host == 'mmaction' else {}
        return {
            'default': {},
            'none': dict(init_cfg=[] if self.host == 'mmdet' else None),
            'init_cfg*': dict(init_cfg=loading),
            'list*': dict(init_cfg=[kaiming, loading]),
            'argument*': dict(pretrained=str(file), **own),
            'torchvision*': dict(pretrained=str(file)),
            'inflated*': dict(pretrained=str(file)),
        }[init]


SMALL = dict(base_channels=8)
SMALL_STEM = dict(base_channels=8, stem_channels=8)
NEXT = dict(depth=50, groups=2)
# mmaction's 2D ResNet has no narrow form: two stages keep it small.
TSN = dict(num_stages=2, out_indices=(1,), strides=(1, 2), dilations=(1, 1))
# norm_eval=True, mmdet's default, has a test of its own.
TRAIN = dict(norm_eval=False, **SMALL)
FACTORED = dict(conv_cfg=dict(type='Conv2plus1d'), inflate_style='3x3x3')
PLAIN = dict(pretrained2d=False, **SMALL)
# The words behind the settings are the ways to initialise the network that
# the fast tier takes; a way with a '*' loads a file. Each host has each of
# its ways in one row, and the nightly tier takes them for all of its networks.
ROWS = {
    ('mmpretrain', 2): [
        ('ResNet', dict(depth=18, **SMALL_STEM), 'default'),
        ('ResNet', dict(depth=50, **SMALL_STEM), 'init_cfg*'),
        ('ResNetV1c', dict(depth=18, **SMALL_STEM)),
        ('ResNetV1d', dict(depth=18, **SMALL_STEM), 'list*'),
        ('ResNeXt', dict(NEXT, width_per_group=32, **SMALL_STEM)),
        ('SEResNet', dict(depth=50, se_ratio=8, **SMALL_STEM), 'none'),
    ],
    ('mmdet', 2): [
        ('ResNet', dict(depth=18, **TRAIN), 'default', 'argument*'),
        ('ResNet', dict(depth=50, **TRAIN), 'init_cfg*'),
        ('ResNetV1d', dict(depth=18, **TRAIN), 'none'),
        ('ResNeXt', dict(NEXT, base_width=32, **TRAIN), 'list*'),
    ],
    ('mmaction', 2): [
        ('ResNet', dict(depth=18, **TSN), 'none', 'list*', 'argument*'),
        ('ResNet', dict(depth=50, **TSN),
            'default', 'init_cfg*', 'torchvision*'),
    ],
    ('mmaction', 3): [
        ('ResNet3d', dict(depth=18, **SMALL), 'default'),
        ('ResNet3d', dict(depth=50, **SMALL), 'inflated*'),
        ('ResNet3dSlowOnly', dict(depth=50, **SMALL), 'inflated*'),
        ('ResNet2Plus1d', dict(depth=18, **FACTORED, **PLAIN), 'argument*'),
        ('ResNet3dCSN', dict(depth=50, pretrained=None, **PLAIN),
            'argument*'),
    ],
}  # fmt: skip
NETWORKS = [
    Network(host, name, settings, rank, fast)
    for (host, rank), rows in ROWS.items()
    for name, settings, *fast in rows
]
# The networks by name, e.g. ZOO['mmaction-ResNet3d18'].
ZOO = {str(network): network for network in NETWORKS}
# These networks have one kind of residual unit each.
KINDS = (
    'mmpretrain-SEResNet50',
    'mmdet-ResNet18',
    'mmaction-ResNet50',
    'mmaction-ResNet3d50',
    'mmaction-ResNet2Plus1d18',
)


def nightly_unless(fast, *values):
    """Make a case of these values, which the fast tier may leave out."""
    marks = () if fast else pytest.mark.nightly
    return pytest.param(*values, id='-'.join(map(str, values)), marks=marks)


each_network = pytest.mark.parametrize(
    'network', [nightly_unless(str(n) in KINDS, n) for n in NETWORKS]
)


def ways_of(network):
    """Name the host's ways to initialise this network."""
    rows = ROWS[network.host, network.rank]
    ways = dict.fromkeys(way for _, _, *fast in rows for way in fast)
    if network.settings.get('pretrained2d') is False:
        del ways['inflated*']
    return ways


def each_way(*ways):
    """Give a test the networks with each of their ways to be initialised."""
    return pytest.mark.parametrize(
        'network, init',
        [
            nightly_unless(init in network.fast, network, init)
            for network in NETWORKS
            for init in ways_of(network)
            if init in ways or not ways
        ],
    )


def build(host, cfg):
    """Build a dict by the host's registry, in its scope."""
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        return registry.build(cfg)


def first_block(net):
    """Give the path and the module of a network's first block."""
    path = next(iter(net.plugin_units))
    return path, net.get_submodule(path)


def randomize(module):
    """Fill every tensor: nothing at zero, nothing at its initial value."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if 'running_var' in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return module


def as_tuple(y):
    return y if isinstance(y, tuple) else (y,)


def outputs(model, x):
    """Run in evaluation mode; give a tuple, whatever the host returns."""
    model.eval()  # mmaction's returns None
    with torch.no_grad():
        return as_tuple(model(x))


def loss_of(net, x):
    return sum(y.square().mean() for y in as_tuple(net(x)))


def torchvision_names(state):
    """Name the weights of a network of mmaction as torchvision does, in 2D."""
    renamed = {}
    for key, value in state.items():
        key = key.replace('downsample.conv.', 'downsample.0.')
        key = key.replace('downsample.bn.', 'downsample.1.')
        key = re.sub(r'(conv\d)\.conv\.', r'\1.', key)
        key = re.sub(r'conv(\d)\.bn\.', r'bn\1.', key)
        renamed[key] = value.sum(2) if value.dim() == 5 else value
    return renamed


def assert_same(ours, expected):
    """Compare names and tensors, bit for bit."""
    assert ours.keys() == expected.keys()
    assert not [k for k in ours if not torch.equal(ours[k], expected[k])]
