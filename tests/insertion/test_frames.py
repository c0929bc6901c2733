"""Blocks that see the clips of a recognizer whose batch holds frames."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmaction.registry import TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import DefaultScope
from networks import FRAMES, TSN, TSN_HEAD, build, plugin
from torch.utils.checkpoint import checkpoint

from cgnl_mm import CGNL3d, insert_after
from cgnl_mm.analysis.flops import count_flops
from cgnl_mm.deploy.export import Exported
from cgnl_mm.visualization.blocks import find_blocks
from cgnl_mm.visualization.inputs import look

SETTINGS = dict(groups=2, norm_weight=1.0, init_std=0.1)
BACKBONES = dict(
    TSN=dict(type='ResNet', **TSN),
    TSM=dict(type='ResNetTSM', depth=18, **FRAMES),
    TIN=dict(type='ResNetTIN', depth=18, **FRAMES),
    pooled=dict(type='ResNetTSM', depth=18, temporal_pool=True, **FRAMES),
)


def recognizer(kind='TSN', frames=True, after='layer2.0', **settings):
    """Build a recognizer whose block does something."""
    torch.manual_seed(0)
    backbone = dict(BACKBONES[kind])
    if frames is not None:
        entry = plugin(after, 'CGNL3d', frames=frames)
        backbone['plugins'] = [dict(entry, cfg=dict(SETTINGS, type='CGNL3d'))]
    head = dict(TSN_HEAD, in_channels=128 if kind == 'TSN' else 512)
    cfg = dict(type='Recognizer2D', backbone=backbone, cls_head=head)
    return build('mmaction', dict(cfg, **settings)).eval()


def clips(count, frames):
    return torch.randn(count, frames, 3, 32, 32)


def samples(count, **meta):
    meta = {'clip_len': 1, **meta} if meta else meta
    made = [ActionDataSample(metainfo=meta) for _ in range(count)]
    return [sample.set_gt_label(0) for sample in made]


def as_by_hand(frames, model, *args, **kwargs):
    """Call a model, and its block on (B, C, T, H, W); return its output."""
    stage, seen = model.backbone.layer2, []
    stage[0].register_forward_hook(lambda *args: seen.append(args[2]))
    stage[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(*args, **kwargs)
    x, y = seen
    block = CGNL3d(128, **SETTINGS)
    block.load_state_dict(stage.cgnl_0.state_dict())
    expected = block(x.reshape(-1, frames, *x.shape[1:]).transpose(1, 2))
    expected = expected.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(y, expected)
    assert not torch.equal(x, y)
    return y


# Kind, frames of two samples, mode, what the samples tell, the clip.
CALLS = {
    'training': ('TSN', 8, 'loss', {}, 8),
    'a clip by hand': ('TSN', 6, 'tensor', {}, 6),
    'testing': ('TSN', 25, 'predict', dict(num_clips=25), 25),
    'crops': ('TSN', 75, 'predict', dict(num_clips=25), 25),
    'dense': ('TSN', 24, 'predict', dict(clip_len=8, num_clips=3), 8),
    'TSM': ('TSM', 8, 'loss', {}, 8),
    'twice_sample': ('TSM', 16, 'predict', {}, 8),
    'TIN': ('TIN', 16, 'predict', {}, 8),
}


@pytest.mark.parametrize('call', CALLS)
def test_the_block_sees_clips(call, monkeypatch):
    # TIN's shift is compiled code; what it shifts is of no matter here.
    monkeypatch.setattr('mmcv.ops.tin_shift', lambda data, _: data)
    kind, total, mode, meta, frames = CALLS[call]
    x = clips(2, total)
    as_by_hand(frames, recognizer(kind), x, samples(2, **meta), mode=mode)


def test_crops_of_a_pipeline():
    """Each crop of ThreeCrop is a clip of its own."""
    steps = [
        dict(type='SampleFrames', clip_len=1, num_clips=25, test_mode=True),
        dict(type='ArrayDecode'),
        dict(type='ThreeCrop', crop_size=32),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs', meta_keys=('clip_len', 'num_clips')),
    ]
    video = np.random.randint(0, 256, (40, 32, 50, 3), np.uint8)
    data = dict(array=video, total_frames=40, start_index=0, modality='RGB')
    model = recognizer()
    with DefaultScope.overwrite_default_scope('mmaction'):
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        data = pseudo_collate([pipeline(dict(data, label=0))])
    crops = data['inputs'][0].float().split(25)
    data = model.data_preprocessor(data)
    together = as_by_hand(25, model, **data, mode='predict')
    alone = [as_by_hand(25, model, crop[None]) for crop in crops]
    torch.testing.assert_close(together, torch.cat(alone))


def test_what_tells_the_frames_of_a_test_sample():
    """Nothing is guessed, and nothing of an earlier call is used."""
    x, y, model = clips(1, 8), clips(1, 24), recognizer()
    with torch.no_grad():
        with pytest.raises(ValueError, match="24 frames; add 'clip_len'"):
            model(y, samples(1), mode='predict')
        model(x, samples(1), mode='loss')
        with pytest.raises(ValueError, match='num_segs='):
            model(y, samples(1), mode='predict')
        as_by_hand(8, model, x, samples(1), mode='predict')
        with pytest.raises(ValueError, match='Recognizer2D.* frames=8'):
            model.backbone(x[0])
        with pytest.raises(ValueError, match='24 frames.* clips of 7'):
            model(y, samples(1, num_clips=7), mode='predict')
    model = recognizer(test_cfg=dict(num_segs=12))
    as_by_hand(12, model, y, samples(1), mode='predict')
    model.cls_head.num_segments = 6  # as TRN's head
    as_by_hand(6, model, y, samples(1), mode='predict')


def test_a_fixed_number():
    """It needs no recognizer, but that refuses samples of other lengths."""
    model = recognizer(frames=8)
    model.backbone(clips(2, 8).flatten(0, 1))
    x = clips(8, 25)  # 200 frames are a multiple of 8
    with pytest.raises(ValueError, match='25 frames, .* whole clips of 8'):
        model(x, samples(8), mode='predict')
    tsm = recognizer('TSM').backbone  # the backbone's own number
    tsm(clips(1, 8)[0])
    block = CGNL3d(256)
    insert_after(tsm, 'layer3.0', block, example=clips(1, 16)[0], frames=True)
    assert block.arrangement.frames == 8
    pooled = recognizer('pooled', after='layer2.net.0').backbone
    assert pooled.layer2.net.cgnl_0.arrangement.frames == 4


def test_insert_after():
    model, block = recognizer(frames=None), CGNL3d(128, **SETTINGS)
    insert_after(model, 'backbone.layer2.0', block, frames=True)
    as_by_hand(8, model, clips(2, 8), samples(2), mode='loss')
    model = recognizer(frames=None)  # it does not learn of a block
    insert_after(model.backbone, 'layer2.0', CGNL3d(128), frames=True)
    with pytest.raises(ValueError, match='call the whole model'):
        model(clips(2, 8), samples(2), mode='loss')


SURVIVE = {
    'copy': copy.deepcopy,
    'pickle': lambda model: pickle.loads(pickle.dumps(model)),
    'EMA': lambda model: ExponentialMovingAverage(model).module,
    'compile': lambda model: torch.compile(model, backend='eager'),
}
COMPILE = pytest.param('compile', marks=pytest.mark.nightly)


@pytest.mark.parametrize('survive', [*list(SURVIVE)[:3], COMPILE])
def test_survives(survive):
    """A copy has a block of its own, and tells it the frames of its call."""
    model = recognizer()
    survivor = SURVIVE[survive](model)
    with torch.no_grad():
        for x in (clips(2, 8), clips(2, 25)):
            expected = model(x, stage='head')
            torch.testing.assert_close(survivor(x, stage='head'), expected)


def test_a_stage_that_runs_again_in_backward():
    model = recognizer()
    stage = model.backbone.layer2
    forward = stage.forward
    stage.forward = lambda x: checkpoint(forward, x, use_reentrant=False)
    losses = model(clips(2, 8), samples(2), mode='loss')
    with pytest.raises(ValueError, match='Recognizer2D.* frames=8'):
        model.backbone(clips(2, 8)[0])  # does not use that call's number
    losses['loss_cls'].backward()
    assert stage.cgnl_0.theta.weight.grad.any()


def test_tools_see_one_clip():
    model = recognizer()
    (block,) = count_flops(model, (5, 32, 32))['blocks']
    assert block['shape'] == [128, 5, 4, 4]
    crops = torch.randint(0, 256, (15, 3, 32, 32), dtype=torch.uint8)
    data = dict(inputs=crops, data_samples=samples(1, num_clips=5)[0])
    cfg = Config(dict(default_scope='mmaction'))
    seen = look(model, cfg, find_blocks(model), data)
    assert len(seen.frames) == 5
    assert seen.blocks['backbone.layer2.cgnl_0'].shape[:3] == (3, 128, 5)


@pytest.mark.skipif(
    not hasattr(torch.export, 'Dim'), reason='no open batch size'
)
def test_export():
    with pytest.raises(ValueError, match='frames=8'):
        torch.export.export(recognizer().backbone, (clips(1, 8)[0],))
    net, x = Exported(recognizer(), 'mmaction'), clips(2, 5).transpose(1, 2)
    shapes = [{0: torch.export.Dim('batch')}]
    program = torch.export.export(net, (x,), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(x[:1]), net(x[:1]))
