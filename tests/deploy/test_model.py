"""A model is built as by the Runner, of the hosts' own configs, too."""

from pathlib import Path

import pytest
import torch
from demos import CONFIGS, trained
from mmengine.config import Config

from cgnl_mm.cli import load_config
from cgnl_mm.datasets.moving_digits import CLASSES
from cgnl_mm.deploy.model import build_model, input_shape, without_weights
from cgnl_mm.errors import SetupError

HERE = Path(__file__).parent
K400 = 'kinetics400-rgb.py'
PRETRAINED = 'imagenet-pretrained-r50'
# the shape that the test pipeline makes, by config
SHAPES = {
    'mmpretrain::resnet/resnet18_8xb32_in1k.py': (224, 224),
    f'mmaction::recognition/tsm/tsm_{PRETRAINED}_8xb16-1x1x8-50e_{K400}': (
        (8, 224, 224)
    ),
    'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py': (800, 1333),
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py': (
        (1024, 2048)
    ),
    'pure_mmpretrain.py': (32, 32),
    'pure_mmaction.py': (4, 32, 32),
    'pure_mmdet.py': (64, 96),
}


# the fast tier takes two text configs and the pure-Python ones
FAST = ('resnet/', 'tsm/', 'pure_')
CASES = [
    pytest.param(
        name, marks=() if any(f in name for f in FAST) else pytest.mark.nightly
    )
    for name in SHAPES
]


@pytest.mark.parametrize('name', CASES)
def test_configs_of_the_hosts(tmp_path, name):
    """The top-level data_preprocessor counts; no weights are downloaded."""
    path = HERE / name
    if '::' in name:
        path = tmp_path / 'config.py'
        path.write_text(f'_base_ = {name!r}')
    cfg = load_config(path)
    assert input_shape(cfg, None) == SHAPES[name]
    expected = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    model = build_model(cfg, None)
    mean = model.data_preprocessor.mean.flatten().tolist()
    assert mean == pytest.approx(expected['mean'])
    assert not model.training


def test_weights_to_download_are_found_everywhere():
    pretrained = dict(type='Pretrained', checkpoint='https://x')
    normal = dict(type='Normal')
    model = dict(
        init_cfg=[normal, pretrained],
        backbones=[dict(init_cfg=pretrained, pretrained='x')],
        head=dict(init_cfg=normal),
    )
    assert without_weights(model) == dict(
        init_cfg=[normal],
        backbones=[dict(init_cfg=None, pretrained=None)],
        head=dict(init_cfg=normal),
    )


@pytest.mark.parametrize('classes', [('a', 'b'), None])
def test_class_names(tmp_path, classes):
    """They are the checkpoint's, else those of the test data."""
    cfg, model = trained('i3d_r18_cgnl_movingdigits')
    saved = dict(state_dict=model.state_dict())
    if classes:
        saved['meta'] = dict(dataset_meta=dict(classes=classes))
    torch.save(saved, tmp_path / 'a.pth')
    found = build_model(cfg, str(tmp_path / 'a.pth')).dataset_meta['classes']
    assert tuple(found) == (classes or tuple(CLASSES))


@pytest.mark.parametrize('having, wanting, message', [
    ('', '_cgnl', 'missing keys in source state_dict: backbone.layer3.cgnl_0'),
    ('_cgnl', '', 'unexpected key in source state_dict: backbone.layer3.cgnl'),
])  # fmt: skip
def test_checkpoint_of_another_network(tmp_path, having, wanting, message):
    """The twin with or without the block, which would load in silence."""
    _, model = trained(f'r18{having}_digits')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    cfg = Config.fromfile(CONFIGS / f'r18{wanting}_digits.py')
    with pytest.raises(SetupError, match=message):
        build_model(cfg, str(tmp_path / 'a.pth'))


def test_weights_that_are_nan_are_told(tmp_path, capsys):
    cfg, model = trained('r18_digits')
    weights = model.state_dict()
    weights['backbone.conv1.weight'][0] = float('nan')
    torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
    build_model(cfg, str(tmp_path / 'a.pth'))
    told = 'a.pth: 1 weights are NaN, such as backbone.conv1.weight\n'
    assert capsys.readouterr().err.endswith(told)


def test_what_does_not_fit():
    with pytest.raises(SetupError, match='has no `model`'):
        build_model(Config(dict(default_scope='mmdet')), None)


@pytest.mark.parametrize('name, shape, axes', [
    ('mask_rcnn_r18_fpn_cgnl_digitscenes', (128, 128), 'H W'),
    ('i3d_r50_cgnl_minikinetics', (32, 256, 256), 'T H W'),
])  # fmt: skip
def test_shape(name, shape, axes):
    """It is that of the test pipeline, or has these axes."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert input_shape(cfg, None) == shape
    for given in ([32], [0, *shape[1:]], [8, *shape]):
        with pytest.raises(SetupError, match=f'--shape takes {axes} for this'):
            input_shape(cfg, given)
