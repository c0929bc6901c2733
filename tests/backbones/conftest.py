"""One small network per plugin backbone, built as a config would build it."""

import logging
from dataclasses import dataclass
from importlib import import_module

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import cgnl_mm  # noqa: F401


@dataclass
class Network:
    """A plugin backbone and its stock twin.

    ``units`` are the residual units of each stage; ``plugins`` insert every
    kind of block, several into one stage and two after one unit; ``fast``
    are the ways to initialise it that the fast tier tries.
    """

    host: str
    name: str
    settings: dict
    rank: int
    units: tuple
    fast: list

    def __str__(self):
        return f'{self.host}-{self.name}{self.settings["depth"]}'

    def config(self, plugins=None, stock=False, **settings):
        """The dict of the network; how blocks are asked for is told here."""
        cfg = dict(type=self.name if stock else f'Plugin{self.name}')
        cfg.update(self.settings)
        cfg.update(settings)
        if plugins is not None:
            cfg['plugins'] = plugins
        return cfg

    def build(self, plugins=None, stock=False, **settings):
        return self.build_any(self.config(plugins, stock, **settings))

    def build_any(self, cfg):
        """Build from a dict through the host's registry, in its scope."""
        registry = import_module(f'{self.host}.registry').MODELS
        with DefaultScope.overwrite_default_scope(self.host):
            return registry.build(cfg)

    def input(self, batch=2):
        shape = (16, 16) if self.rank == 2 else (2, 16, 16)
        return torch.randn(batch, 3, *shape)

    def after(self, *stages):
        """Pad or cut after_blocks to the stages of this network."""
        return (stages + ((),) * 4)[: len(self.units)]

    @property
    def inits(self):
        """Ways to initialise this network; those with '*' load a file."""
        if self.host == 'mmpretrain':
            return ('default', 'none', 'init_cfg*', 'list*')
        if self.host == 'mmdet':
            return ('default', 'none', 'init_cfg*', 'list*', 'argument*')
        if self.rank == 2:
            more = ('argument*', 'torchvision*')
            return ('default', 'none', 'init_cfg*', 'list*', *more)
        if self.name in ('ResNet3d', 'ResNet3dSlowOnly'):
            return ('default', 'argument*', 'inflated*')
        return ('default', 'argument*')

    def init_settings(self, init, file):
        """Arguments of the network that initialise it the way ``init``."""
        loading = dict(type='Pretrained', checkpoint=str(file))
        kaiming = dict(type='Kaiming', layer=['Conv2d'], bias=1)
        argument = dict(pretrained=str(file))
        if self.host == 'mmaction':
            own = 'torchvision_pretrain' if self.rank == 2 else 'pretrained2d'
            argument[own] = False
        return {
            'default': {},
            'none': dict(init_cfg=[] if self.host == 'mmdet' else None),
            'init_cfg*': dict(init_cfg=loading),
            'list*': dict(init_cfg=[kaiming, loading]),
            'argument*': argument,
            'torchvision*': dict(pretrained=str(file)),
            'inflated*': dict(pretrained=str(file)),
        }[init]

    @property
    def plugins(self):
        norm_cfg = dict(type=f'BN{self.rank}d')
        plugins = [
            dict(
                cfg=dict(type=f'CGNL{self.rank}d', groups=2),
                after_blocks=self.after((0, -1), (-2,)),
            ),
            dict(
                cfg=dict(type=f'NonLocal{self.rank}d', norm_cfg=norm_cfg),
                after_blocks=self.after((), (0, -1)),
            ),
        ]
        if self.rank == 2:
            plugins.append(
                dict(
                    cfg=dict(type='ContextBlock', ratio=1 / 4),
                    after_blocks=self.after((-1,), (-1,)),
                )
            )
        return plugins


R50 = (3, 4, 6, 3)
SMALL = dict(base_channels=8)
SMALL_STEM = dict(base_channels=8, stem_channels=8)
NEXT = dict(depth=50, groups=2)
# mmaction's 2D ResNet has no narrow form: two stages keep it small
TSN = dict(num_stages=2, out_indices=(1,), strides=(1, 2), dilations=(1, 1))
# norm_eval is mmdet's default; it has a test of its own
TRAIN = dict(norm_eval=False, **SMALL)
FACTORED = dict(conv_cfg=dict(type='Conv2plus1d'), inflate_style='3x3x3')
PLAIN = dict(pretrained2d=False, **SMALL)


def networks(host, rank, rows):
    for name, settings, *fast in rows:
        units = R50 if settings['depth'] == 50 else (2, 2, 2, 2)
        units = units[: settings.get('num_stages')]
        yield Network(host, name, settings, rank, units, fast)


# The words behind the settings are the ways to initialise the network that
# the fast tier takes. Each host has each of its ways in one row.
NETWORKS = [
    *networks('mmpretrain', 2, [
        ('ResNet', dict(depth=18, **SMALL_STEM), 'default'),
        ('ResNet', dict(depth=50, **SMALL_STEM), 'init_cfg*'),
        ('ResNetV1c', dict(depth=18, **SMALL_STEM)),
        ('ResNetV1d', dict(depth=18, **SMALL_STEM), 'list*'),
        ('ResNeXt', dict(NEXT, width_per_group=32, **SMALL_STEM)),
        ('SEResNet', dict(depth=50, se_ratio=8, **SMALL_STEM), 'none'),
    ]),
    *networks('mmdet', 2, [
        ('ResNet', dict(depth=18, **TRAIN), 'default', 'argument*'),
        ('ResNet', dict(depth=50, **TRAIN), 'init_cfg*'),
        ('ResNetV1d', dict(depth=18, **TRAIN), 'none'),
        ('ResNeXt', dict(NEXT, base_width=32, **TRAIN), 'list*'),
    ]),
    *networks('mmaction', 2, [
        ('ResNet', dict(depth=18, **TSN), 'none', 'list*', 'argument*'),
        ('ResNet', dict(depth=50, **TSN),
            'default', 'init_cfg*', 'torchvision*'),
    ]),
    *networks('mmaction', 3, [
        ('ResNet3d', dict(depth=18, **SMALL), 'default'),
        ('ResNet3d', dict(depth=50, **SMALL), 'inflated*'),
        ('ResNet3dSlowOnly', dict(depth=50, **SMALL), 'inflated*'),
        ('ResNet2Plus1d', dict(depth=18, **FACTORED, **PLAIN), 'argument*'),
        ('ResNet3dCSN', dict(depth=50, pretrained=None, **PLAIN),
            'argument*'),
    ]),
]  # fmt: skip

# These networks have one kind of residual unit each.
KINDS = (
    'mmpretrain-SEResNet50',
    'mmdet-ResNet18',
    'mmaction-ResNet50',
    'mmaction-ResNet3d50',
    'mmaction-ResNet2Plus1d18',
)


def pytest_generate_tests(metafunc):
    """Give a test the values of ``network``, ``init`` and ``loading``.

    ``network`` alone has one network of each kind of residual unit. ``init``
    adds the ways to initialise a network, ``loading`` only the ways that read
    a checkpoint with our own names. All networks, in all ways, are nightly.
    """

    def case(*values, fast):
        marks = () if fast else pytest.mark.nightly
        name = '-'.join(map(str, values))
        return pytest.param(*values, id=name, marks=marks)

    names = metafunc.fixturenames
    if 'init' in names or 'loading' in names:
        name = 'init' if 'init' in names else 'loading'
        pairs = [
            case(network, init, fast=init in network.fast)
            for network in NETWORKS
            for init in network.inits
            if name == 'init' or init in ('init_cfg*', 'list*', 'argument*')
        ]
        metafunc.parametrize(f'network, {name}', pairs)
    elif 'network' in names:
        cases = [case(each, fast=str(each) in KINDS) for each in NETWORKS]
        metafunc.parametrize('network', cases)


@pytest.fixture(autouse=True, scope='session')
def quiet_log():
    """mmengine logs every initialised parameter."""
    MMLogger.get_instance('mmengine', log_level=logging.WARNING)


@pytest.fixture
def zoo():
    """The networks by name, e.g. ``zoo['mmaction-ResNet3d18']``."""
    return {str(network): network for network in NETWORKS}


def randomize(module):
    """Fill every tensor: nothing at zero, nothing at its initial value."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if 'running_var' in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return module


@pytest.fixture(name='randomize')
def randomize_fixture():
    return randomize


@pytest.fixture
def outputs():
    """Outputs in evaluation mode, as a tuple whatever the host returns."""

    def run(model, x):
        model.eval()
        with torch.no_grad():
            y = model(x)
        return y if isinstance(y, tuple) else (y,)

    return run


@pytest.fixture
def assert_same():
    """Bit for bit: same names, same tensors."""

    def check(ours, expected):
        assert ours.keys() == expected.keys()
        different = [k for k in ours if not torch.equal(ours[k], expected[k])]
        assert not different

    return check


@pytest.fixture
def warnings_logged():
    """Warnings that went to mmengine's log."""
    messages = []

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
