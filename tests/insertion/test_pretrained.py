"""Start networks with blocks from checkpoints in their original formats.

test_initialization.py shows what loads our own names.
"""

from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from networks import assert_same, build, outputs, plugin, randomize
from torch import nn

from cgnl_mm.insertion.initialization import named_blocks

ROOT = Path(__file__).parents[2]
I3D = (
    'mmaction::recognition/i3d/'
    'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py'
)


@pytest.fixture(scope='module')
def resnet18(tmp_path_factory):
    """Give torchvision's own network and its file."""
    torch.manual_seed(1)
    net = torchvision.models.resnet18()
    for name, value in net.state_dict().items():
        if name.endswith('running_mean'):
            value.normal_(0, 0.1)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
    file = tmp_path_factory.mktemp('torchvision') / 'resnet18.pth'
    torch.save(net.state_dict(), file)
    return net.eval(), file


@pytest.mark.parametrize(
    'host, prefix',
    [('mmpretrain', 'backbone.'), ('mmdet', ''), ('mmaction', '')],
)
def test_2d(host, prefix, resnet18, tmp_path):
    theirs, file = resnet18
    loading = dict(type='Pretrained', checkpoint=str(file))
    if prefix:
        state = {f'{prefix}{k}': v for k, v in theirs.state_dict().items()}
        file = tmp_path / 'resnet18_8xb32_in1k.pth'
        torch.save(dict(meta=dict(epoch=1), state_dict=state), file)
        loading.update(checkpoint=str(file), prefix=prefix)
    start = dict(init_cfg=loading)
    if host == 'mmaction':
        start = dict(pretrained=str(file))
    cfg = dict(type='ResNet', depth=18, out_indices=(3,), **start)
    net = build(host, dict(cfg, plugins=[plugin('layer3.-2')]))
    net.init_weights()
    net.eval()
    x = torch.randn(1, 3, 32, 32)
    (ours,) = outputs(net, x)
    (expected,) = outputs(nn.Sequential(*list(theirs.children())[:-2]), x)
    assert expected.std() > 0.1
    # The hosts run the same operators.
    assert torch.equal(ours, expected)


def build_narrow(cfg):
    cfg.model.backbone.update(base_channels=8, pretrained=None)
    cfg.model.cls_head.in_channels = 256
    return build('mmaction', cfg.model)


def test_from_kinetics(tmp_path, capsys):
    """mmaction2's I3D for Kinetics-400 (narrow), as its Runner saves it."""
    theirs = build_narrow(Config.fromstring(f'_base_ = {I3D!r}', '.py'))
    state = randomize(theirs).state_dict()
    assert {
        'backbone.conv1.bn.running_mean',
        'backbone.layer1.0.conv1.conv.weight',
        'backbone.layer1.0.downsample.conv.weight',
        'backbone.layer1.0.downsample.bn.weight',
        'cls_head.fc_cls.weight',
    } <= state.keys()
    file = str(tmp_path / 'i3d_kinetics400.pth')
    torch.save(dict(meta=dict(epoch=100), state_dict=state), file)
    cfg = Config.fromfile(ROOT / 'configs/i3d_r50_cgnl_ucf101.py')
    model = build_narrow(cfg)
    model.init_weights()
    load_checkpoint(model, file)  # as the Runner does
    report = capsys.readouterr().out
    assert 'size mismatch for cls_head.fc_cls.weight' in report
    assert 'layer1' not in report
    ours = model.state_dict()
    assert ours['cls_head.fc_cls.weight'].shape == (101, 256)
    body = {k: v for k, v in state.items() if not k.startswith('cls_head.')}
    assert_same({k: ours[k] for k in body}, body)
    _, block = next(named_blocks(model.backbone))
    x = torch.randn(2, block.in_channels, 2, 4, 4)
    assert torch.equal(block(x), x)
