"""The key `plugins`: which registries, which places, which mistakes."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, Registry, build_from_cfg
from networks import SWIN, ZOO, build, outputs, plugin
from PIL import Image
from torch import nn

from cgnl_mm.cli.lint import find_mistakes
from cgnl_mm.insertion.places import find_places, find_units

ROOT = Path(__file__).parents[2]
R18 = ZOO['mmpretrain-ResNet-layer3.-2']
I3D = ZOO['mmaction-ResNet3d-layer3.-2']
R50 = dict(R18.cfg, depth=50)
EARLY = Registry('early', parent=MODELS, scope='early')  # before the key is


class Stem(nn.Module):
    """Run one convolution."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return self.conv(x)


def build_by_itself(cfg, registry, default_args):
    return build_from_cfg(cfg, registry, default_args)


@pytest.mark.parametrize('own', [None, build_by_itself])
def test_any_registry_below_mmengines(own):
    registry = Registry(
        'models', parent=MODELS, scope=f'scope{own}', build_func=own
    )
    registry.register_module(module=Stem)
    cfg = ConfigDict(type='Stem', plugins=[plugin('conv')])
    before = copy.deepcopy(cfg)
    net = registry.build(cfg, default_args=dict(width=4))
    assert hasattr(net.conv, 'cgnl') and cfg == before
    EARLY.register_module(module=Stem, force=True)
    assert hasattr(EARLY.build(cfg, default_args=dict(width=4)).conv, 'cgnl')
    other = Registry('others', scope='other')
    other.register_module(module=Stem)
    with pytest.raises(TypeError):
        other.build(dict(cfg, width=4))


def test_a_list_of_modules_item_by_item():
    first = dict(type=Stem, width=3, plugins=[plugin('conv')])
    first['plugins'][0]['cfg'].update(reduction=1, groups=1)
    second = dict(type=Stem, width=4)
    net = MODELS.build([first, second])
    assert hasattr(net[0].conv, 'cgnl') and not hasattr(net[1].conv, 'cgnl')


def test_paths():
    """An integer counts from the end, and * is one name."""
    net = build('mmpretrain', R50)
    assert find_places(net, 'layer3.-2') == ['layer3.4']
    assert find_places(net, ['layer4.*', 'conv1']) == [
        *('layer4.0', 'layer4.1', 'layer4.2'),
        'conv1',
    ]
    assert find_places(net, 'layer4.*.conv3') == [
        f'layer4.{unit}.conv3' for unit in range(3)
    ]
    five = ((), (1, 3), [5, 1, -3], ())
    units = {'layer2': (1, 3), 'layer3': (5, 1, 3)}
    expected = [f'{stage}.{i}' for stage in units for i in units[stage]]
    assert find_units(net, five) == expected


def test_order_of_the_list():
    """Paths mean the network before, and one place takes several blocks."""
    plugins = [
        plugin('layer3.1'),
        dict(cfg=dict(type='NonLocal2d'), after='layer3.-1'),
        plugin('layer3.1', name='other'),
        plugin('conv1'),
        plugin('conv1', name='other'),
    ]
    net = R18.build(plugins)
    assert list(net.layer3._modules) == [
        *('0', '1', 'cgnl_1', 'nonlocal_block_1', 'other_1')
    ]
    ran = []
    for name in ('cgnl', 'other'):
        net.conv1.get_submodule(name).register_forward_hook(
            lambda *_, name=name: ran.append(name)
        )
    net(torch.randn(2, 3, 32, 32))
    assert ran == ['cgnl', 'other']


def test_any_registered_block_between_units():
    """A block sees the unit's output, the next unit the block's."""

    class Halve(nn.Module):
        def __init__(self, in_channels):
            super().__init__()

        def forward(self, x):
            return x / 2

    entry = dict(cfg=dict(type=Halve), after='layer4')
    net, stock = R18.build([entry]), R18.build()
    stock.load_state_dict(net.state_dict())
    x = R18.input()
    assert torch.equal(outputs(net, x)[0], outputs(stock, x)[0] / 2)


@pytest.mark.parametrize('name', ['ResNet', 'DetectoRS_ResNet'])
def test_mmdets_own_form_beside_ours(name):
    """A block inside of each unit's branch keeps its start, too."""
    entry = dict(
        cfg=dict(type='CGNL2d', groups=2),
        stages=(False, True, False, False),
        position='after_conv3',
    )
    cfg = dict(type=name, depth=50, plugins=[entry, plugin('layer3.-2')])
    if name != 'ResNet':
        cfg.update(conv_cfg=dict(type='ConvAWS'), output_img=True)
    net = build('mmdet', cfg)
    before = {k: v.clone() for k, v in net.state_dict().items() if 'cgnl' in k}
    net.init_weights()
    assert hasattr(net.layer3, 'cgnl_4') and len(before) == (4 + 1) * 6
    after = net.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def case(text, *plugins, network=R18, **settings):
    return text, plugins, network, settings


BLOCK = dict(type='CGNL2d', groups=2)
BN = dict(BLOCK, norm_cfg=dict(type='BN'))
MISTAKES = [
    case("no module 'layer3.9'; did you mean .*layer3' has 0, 1",
        plugin('layer3.9')),
    case("no module 'layr3.0'; did you mean", plugin('layr3.0')),
    case("'res_layer'; did you .*the network has conv1", plugin('res_layer')),
    case('after=3 must be a dotted path', plugin(3)),
    case("'slow_path' is a ResNet3dPathway.* only its owner .*conv1",
        plugin('slow_path', 'CGNL3d'),
        network=ZOO['mmaction-ResNet3dSlowFast-slow_path.layer3.-2']),
    case("'fpn_convs' is a ModuleList", plugin('fpn_convs'),
        network=ZOO['mmdet-FPN-fpn_convs.0']),
    case("'patch_embed' returns a tuple.*patch_embed.norm.*axes='BNC'",
        plugin('patch_embed'), network=SWIN),
    case(r"layer4.1' lies behind the last output", plugin('layer4.1'),
        out_indices=(1,)),
    case('freezes the block .frozen_stages=3.*allow_frozen=True',
        plugin('layer3.0'), frozen_stages=3),
    case('freezes its BatchNorm .*partial_bn=True',
        dict(cfg=BN, after='layer2.0'), partial_bn=True, frozen_stages=-1,
        network=ZOO['mmaction-ResNet-layer2.0']),
    case(r'CGNL3d expects .B, 32, T, H, W.', plugin('layer3.0', 'CGNL3d')),
    case('no block .CGNL. is registered; known are',
        plugin('layer3.0', 'CGNL')),
    case("'group'; CGNL2d takes in_channels, groups", dict(
        cfg=dict(type='CGNL2d', group=2), after='layer3.0')),
    case('groups=3 does not divide', dict(
        cfg=dict(type='CGNL2d', groups=3), after='layer3.0')),
    case('in_channels=64, but there are 32', dict(
        cfg=dict(BLOCK, in_channels=64), after='layer3.0')),
    case("cannot take a module 'cgnl_0'", plugin('layer3.0'),
        plugin('layer3.0')),
    case("unknown keys .'afer_blocks'", dict(
        cfg=BLOCK, after='layer3.0', afer_blocks=())),
    case("needs a 'cfg' with the dict", dict(cfg='CGNL2d', after='conv1')),
    case('both `after` and', dict(plugin('conv1'), after_blocks=())),
    case('ResNet has no plugins of this form.*`after`', dict(cfg=BLOCK)),
    case('no plugins of this form.*`after`', dict(cfg=BLOCK),
        network=ZOO['mmdet-ResNet-layer3.-2']),
    case('no plugins of this form.*`after`', dict(
        cfg=BLOCK, stages=(True,) * 4, position='after_conv3'),
        network=ZOO['mmdet-ResNet-layer3.-2'], depth=18),
    case('one tuple of units, .* for each of the 4 stages .layer1, layer2',
        dict(cfg=BLOCK, after_blocks=((), (0,)))),
    case("no module 'layer2.2'.*'layer2' has 0, 1",
        dict(cfg=BLOCK, after_blocks=((), (2,), (), ()))),
    case('one tuple of units, such as',
        dict(cfg=BLOCK, after_blocks=((), -1, (), ()))),
    case('and name a unit', dict(cfg=BLOCK, after_blocks=((), (), (), ()))),
    case('other places go by `after`',
        dict(cfg=BLOCK, after_blocks=((), (0,))),
        network=ZOO['mmdet-CSPDarknet-stage3.-1']),
]  # fmt: skip


@pytest.mark.parametrize(
    'text, plugins, network, settings', MISTAKES, ids=lambda x: str(x)[:30]
)
def test_mistake(text, plugins, network, settings):
    with pytest.raises(ValueError, match=text) as error:
        network.build(list(plugins), **settings)
    assert '\n' not in str(error.value)


def test_a_dict_that_no_registry_builds():
    network = ZOO['mmaction-ResNet3dSlowFast-slow_path.layer3.-2']
    slow = dict(network.cfg['slow_pathway'], plugins=[plugin('layer3.-2')])
    message = "'slow_pathway' .* around it.*after='slow_path.layer3.-2'"
    with pytest.raises(ValueError, match=message):
        network.build(slow_pathway=slow)
    backbone = dict(type='torchvision.resnet18')
    inside = dict(backbone, plugins=[plugin('layer1.0')])
    message = "'backbone' .* around it.*after='backbone.layer1.0'"
    with pytest.raises(ValueError, match=message):
        build('mmaction', dict(type='Recognizer2D', backbone=inside))
    cfg = dict(type='Recognizer2D', backbone=backbone)
    net = build('mmaction', dict(cfg, plugins=[plugin('backbone.layer1.0')]))
    assert hasattr(net.backbone.layer1, 'cgnl_0')


SLOWFAST = dict(
    type='ResNet3dSlowFast',
    slow_pathway=dict(plugins=[plugin(['layer3.0', 'layer3.1'])]),
)


@pytest.mark.parametrize(
    'backbone, error',
    [
        (SLOWFAST, r"backbone.slow_pathway; .*\['slow_path.layer3.0', 'slow"),
        (
            dict(type='timm.resnet18', plugins=[plugin('layer3.-2')]),
            "backbone; .* around it, .* after='backbone.layer3.-2'",
        ),
        (dict(type='ResNet3d', plugins=[plugin('layer3.-2')]), None),
        (dict(type='mmdet.ResNet', plugins=[plugin('layer3.-2')]), None),
        (dict(type=Stem, plugins=[plugin('conv')]), None),
    ],
)
def test_a_dict_that_no_registry_builds_in_a_file(backbone, error):
    """The tools say so before anything is built."""
    model = dict(type='Recognizer3D', backbone=backbone)
    found = list(
        find_mistakes(Config(dict(model=model, default_scope='mmaction')))
    )
    assert len(found) == bool(error)
    assert not error or re.match(f'no registry builds model.{error}', found[0])


READ = """
from mmengine.config import Config
from mmengine.registry import MODELS

cfg = Config.fromfile('pure.py')
print(MODELS.build(cfg.model).backbone.layer3.cgnl_0)
"""
INFER = """
from mmpretrain import get_model

print(get_model('pure.py').backbone.layer3.cgnl_0)
"""
DETECT = """
import cgnl_mm  # or else mmdet needs a compiled mmcv
from mmdet.apis import init_detector

net = init_detector('pure_mmdet.py', palette='random', device='cpu')
print(net.backbone.layer3.cgnl_0)
"""
TRAIN = """
import runpy, sys
import mmpretrain
import torch

sys.argv = ['train.py', 'pure.py', '--work-dir', 'w']
tool = mmpretrain.__path__[0] + '/.mim/tools/train.py'
runpy.run_path(tool, run_name='__main__')
state = torch.load('w/epoch_1.pth', weights_only=False)['state_dict']
print([key for key in state if '.norm.' in key])
"""
REST = """
default_scope = 'mmpretrain'
model.update(neck=dict(type='GlobalAveragePooling'), head=dict(
    type='LinearClsHead', num_classes=2, in_channels=512))
steps = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(
    type='CustomDataset', data_root='data', pipeline=steps),
    sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""


NIGHTLY = pytest.param(TRAIN, marks=pytest.mark.nightly)


@pytest.mark.parametrize('code', [READ, INFER, DETECT, NIGHTLY])
def test_pure_python_config(code, python, tmp_path):
    """The page's line imports cgnl_mm before a host builds the model."""
    page = (ROOT / 'docs/plugins.md').read_text()
    (pure,) = re.findall(r'```python\n(from mmpretrain.*?)```', page, re.S)
    (tmp_path / 'pure.py').write_text(pure + REST)
    shutil.copy(ROOT / 'tests/deploy/pure_mmdet.py', tmp_path)
    for file in tmp_path.glob('*.py'):
        assert "\n__import__('cgnl_mm')\n" in file.read_text()
    assert pure.count('import') == 3
    (tmp_path / 'data/a').mkdir(parents=True)
    Image.new('RGB', (64, 64)).save(tmp_path / 'data/a/0.jpg')
    told = "['backbone.layer3.cgnl_0.norm.w" if code == TRAIN else 'CGNL2d'
    assert told in python('-c', code, off='', cwd=tmp_path)


def test_plugins_must_be_a_list():
    with pytest.raises(ValueError, match='must be a list of dicts'):
        R18.build(plugin('layer3.0'))
