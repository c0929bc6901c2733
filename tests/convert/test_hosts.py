"""Checkpoints of the hosts' own attention networks."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmcv.cnn import NonLocal3d
from mmengine.config import Config
from networks import build, randomize

from cgnl_mm.convert import ConversionError, convert_checkpoint
from cgnl_mm.convert.files import convert_file
from cgnl_mm.hosts import HOME


def nightly(*values):
    return pytest.param(*values, marks=pytest.mark.nightly)


def host_config(host, name):
    """Read the model of a config of a host."""
    folder = Path(import_module(host).__file__).parent / '.mim/configs'
    (path,) = folder.rglob(f'{name}.py')
    return Config.fromfile(path).model


NON_LOCAL = {
    'i3d_imagenet-pretrained-r50-nl-dot-product_8xb8-32x2x1-100e_'
    'kinetics400-rgb': 'i3d_r50_nl5_kinetics400',
    'tsm_imagenet-pretrained-r50-nl-dot-product_8xb16-1x1x8-50e_'
    'kinetics400-rgb': None,
    'slowonly_r50-in1k-pre-nl-embedded-gaussian_8xb16-8x8x1-steplr-150e_'
    'kinetics400-rgb': None,
    'slowonly_kinetics400-pretrained-r50-nl_8xb16-8x8x1-20e_ava21-rgb': None,
}
FAST = 2


@pytest.mark.parametrize(
    'name', [*list(NON_LOCAL)[:FAST], *map(nightly, list(NON_LOCAL)[FAST:])]
)
def test_non_local_of_mmaction(name, tmp_path, capsys):
    """Scores are the same, bit for bit, by the entry that the tool prints."""
    cfg = host_config('mmaction', name)
    backbone, is_tsm = cfg.backbone, name.startswith('tsm')
    backbone.update(pretrained=None, pretrained2d=False)
    if not is_tsm:  # mmaction's 2D ResNets have no narrow form
        backbone.update(base_channels=8)
    if 'cls_head' in cfg:
        cfg.cls_head.in_channels = 2048 if is_tsm else 256
    else:  # a detector, whose backbone holds the blocks
        cfg = dict(type='Recognizer3D', backbone=backbone)
    theirs = randomize(build('mmaction', cfg))
    source, out = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(dict(meta={}, state_dict=theirs.state_dict()), source)
    convert_file(str(source), out, 'mmaction', False, False)
    (entries,) = re.findall(r'plugins=(.*)', capsys.readouterr().out)

    settings = backbone.pop('non_local_cfg')
    backbone.pop('non_local')
    names = dict(NON_LOCAL_CFG=settings, NUM_SEGMENTS=8)
    backbone.plugins = eval(entries, names)
    if NON_LOCAL[name]:
        config = HOME / f'configs/{NON_LOCAL[name]}.py'
        cfg = Config.fromfile(config).model
        cfg.backbone.update(base_channels=8, pretrained=None)
        cfg.cls_head.in_channels = 256
    ours = build('mmaction', cfg)
    ours.load_state_dict(torch.load(out)['state_dict'], strict=True)
    x = torch.randn(2, *((8, 3, 32, 32) if is_tsm else (1, 3, 8, 32, 32)))
    stage = 'head' if 'cls_head' in cfg else 'backbone'
    scores = []
    with torch.no_grad():
        for net in (theirs, ours, ours):
            net.eval()
            scores.append(net(x, mode='tensor', stage=stage))
            blocks = [m for m in net.modules() if isinstance(m, NonLocal3d)]
            for block in blocks if net is ours else ():
                block.conv_out.bn.weight.zero_()
    assert torch.equal(scores[0], scores[1]) and len(blocks) == 5
    assert not torch.allclose(scores[1], scores[2])


def test_non_local_is_not_converted_to_others():
    state = {'backbone.layer2.1.non_local_block.g.0.conv.bias': torch.ones(1)}
    with pytest.raises(ConversionError, match='--to mmaction'):
        convert_checkpoint(state, 'mmpretrain')
    state['cls_head.fc_cls.bias'] = torch.ones(1)
    assert list(convert_checkpoint(state, 'mmaction', True)) == [
        'backbone.layer2.non_local3d_1.g.0.conv.bias'
    ]


@pytest.mark.parametrize(
    'name',
    [
        'mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco',
        'faster-rcnn_r50-attn1111_fpn_1x_coco',
    ],
)
def test_attention_of_mmdet_loads_as_it_is(name):
    """Also beside an entry of ours, whose keys alone are new."""
    from mmdet.models.backbones import ResNet

    cfg = host_config('mmdet', name).backbone
    cfg.update(init_cfg=None, base_channels=8, norm_eval=False)
    theirs = randomize(ResNet(**{k: cfg[k] for k in cfg if k != 'type'}))
    cfg.plugins.append(dict(cfg=dict(type='CGNL2d'), after='layer3.-2'))
    ours = build('mmdet', cfg)
    missing, unknown = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unknown and all('layer3.cgnl_4' in key for key in missing)
    x = torch.randn(2, 3, 64, 64)
    for net in (theirs, ours):
        net.eval()
    with torch.no_grad():
        assert all(map(torch.equal, ours(x), theirs(x)))
