"""Each repair against its symptom: an error without it, none with it."""

import pytest

CODE = dict(
    mmaction_drn='import mmaction.models',
    mmcv_ops='import mmdet.models, mmdet.datasets',
    numpy_hue="""
import mmcv, numpy as np
mmcv.adjust_hue(np.zeros((4, 4, 3), np.uint8), -0.1)
""",
    no_pkg_resources="""
from mmengine.config import Config
base = "_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'"
assert Config.fromstring(base, '.py').model.type == 'MaskRCNN'
""",
    plugins_key="""
from mmengine.registry import MODELS
from mmpretrain.models import ResNet
plugins = [dict(cfg=dict(type='CGNL2d', groups=2), after='layer3.0')]
MODELS.build(dict(type=ResNet, depth=18, plugins=plugins))
""",
    safe_load="""
import torch
from mmengine.logging import MessageHub
hub = MessageHub.get_instance('run')
hub.update_scalar('loss', 1.0)
torch.save(hub.state_dict(), 'hub.pth')
torch.load('hub.pth')
""",
    test_metrics="""
import os, tempfile
from types import SimpleNamespace

import torch.distributed as dist
from mmengine.hooks import LoggerHook
from torch.testing._internal.distributed.fake_pg import FakeStore

runner = SimpleNamespace(
    log_processor=SimpleNamespace(
        get_log_after_epoch=lambda *_, **__: ({'top1': 1}, '')
    ),
    logger=SimpleNamespace(info=print),
    log_dir=tempfile.mkdtemp(dir='.'),
    test_dataloader=(),
)
hook = LoggerHook()
hook.json_log_path = 'alone.json'
hook.after_test_epoch(runner)
dist.init_process_group('fake', FakeStore(), rank=1, world_size=2)
hook.json_log_path = 'second.json'
hook.after_test_epoch(runner)
assert os.listdir(runner.log_dir) == ['alone.json'], 'both processes write'
""",
    mmaction_pyav="""
import av
from mmaction.datasets.transforms import PyAVInit

fragments = dict(movflags='frag_keyframe+empty_moov')
with av.open('a.mp4', 'w', options=fragments) as video:
    stream = video.add_stream('mpeg4', rate=8)
    for _ in range(3):
        video.mux(stream.encode(av.VideoFrame(64, 64)))
    video.mux(stream.encode())
found = PyAVInit()(dict(filename='a.mp4'))
assert found['total_frames'] == 3, 'other frames'
assert len(list(found['video_reader'].decode(video=0))) == 3
""",
    mmaction_bfloat16="""
import torch
from mmaction.models import I3DHead
from mmaction.structures import ActionDataSample

head = I3DHead(num_classes=3, in_channels=4)
scores = torch.tensor([[0.5, 2, 1], [3, 1, 0]])
samples = [ActionDataSample().set_gt_label(k) for k in (1, 2)]
wide = head.loss_by_feat(scores, samples)
losses = head.loss_by_feat(scores.bfloat16(), samples)
assert losses['loss_cls'].dtype == torch.float32
for name, value in wide.items():
    assert torch.equal(losses[name], value), name
assert losses['top1_acc'] == 0.5
""",
)
ERRORS = dict(
    mmaction_drn="No module named 'mmaction.models.localizers.drn'",
    mmcv_ops="No module named 'mmcv._ext'",
    numpy_hue='OverflowError',
    no_pkg_resources='import of pkg_resources halted',
    plugins_key="unexpected keyword argument 'plugins'",
    safe_load='Weights only load failed',
    mmaction_pyav='other frames',
    mmaction_bfloat16='unsupported ScalarType BFloat16',
    test_metrics='both processes write',
)
# None makes an import fail as if nothing were installed.
START = """
import sys
sys.modules['pkg_resources'] = None
import cgnl_mm.compat
"""
# OneDL's forks have mended these themselves.
MENDED = {'numpy_hue', 'no_pkg_resources'}


@pytest.mark.parametrize('name', CODE)
def test_symptom(name, request, python, needs, tmp_path):
    if name != 'no_pkg_resources':
        needs(name)
    if name in MENDED:
        request.getfixturevalue('originals')
    code = START + CODE[name]
    off = python('-c', code, off=f'-{name}', status=1, cwd=tmp_path)
    assert ERRORS[name] in off
    python('-c', code, off='', cwd=tmp_path)


def test_mmcv_imported_before_us(python, needs):
    """As in a notebook that has used mmpretrain already."""
    needs('mmcv_ops')
    code = (
        'import mmcv.cnn.bricks.transformer, cgnl_mm.compat\n'
        'cgnl_mm.compat.apply()\n'
        'import mmdet.models'
    )
    python('-c', code, off='')
