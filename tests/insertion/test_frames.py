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
from networks import FRAMES, TSN, build, plugin
from torch.utils.checkpoint import checkpoint

from cgnl_mm import CGNL3d, insert_after
from cgnl_mm.analysis.flops import count_flops
from cgnl_mm.deploy.export import Exported
from cgnl_mm.visualization.blocks import find_blocks
from cgnl_mm.visualization.inputs import look

PLACE = 'backbone.layer2.0'
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
        entry['cfg'].update(SETTINGS)
        backbone['plugins'] = [entry]
    width = 128 if kind == 'TSN' else 512
    head = dict(type='TSNHead', num_classes=3, in_channels=width)
    head.update(dropout_ratio=0.0, average_clips='prob')
    cfg = dict(type='Recognizer2D', backbone=backbone, cls_head=head)
    return build('mmaction', dict(cfg, **settings))


def samples(count, **meta):
    made = [ActionDataSample(metainfo=meta) for _ in range(count)]
    return [sample.set_gt_label(0) for sample in made]


def around(model, *args, path=PLACE, **kwargs):
    """Call a model; return what goes into its block, and what comes out."""
    unit = model.get_submodule(path)
    stage = model.get_submodule(path.rpartition('.')[0])
    seen = []
    hooks = [
        unit.register_forward_hook(lambda *args: seen.append(args[2])),
        stage[2].register_forward_pre_hook(
            lambda _, args: seen.append(args[0])
        ),
    ]
    model(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return seen


def by_hand(model, x, frames, path='backbone.layer2.cgnl_0'):
    """Call a block of the same weights on (B, C, T, H, W)."""
    inserted = model.get_submodule(path)
    block = CGNL3d(inserted.in_channels, **SETTINGS)
    block.load_state_dict(inserted.state_dict())
    clips = x.reshape(-1, frames, *x.shape[1:]).transpose(1, 2)
    return block(clips).transpose(1, 2).reshape(x.shape)


# Kind, frames of two samples, mode, what the samples tell, the clip.
CALLS = {
    'training': ('TSN', 8, 'loss', {}, 8),
    'a clip by hand': ('TSN', 6, 'tensor', {}, 6),
    'testing': ('TSN', 25, 'predict', dict(num_clips=25), 25),
    'crops': ('TSN', 75, 'predict', dict(num_clips=25), 25),
    'TSM': ('TSM', 8, 'loss', {}, 8),
    'twice_sample': ('TSM', 16, 'predict', {}, 8),
    'TIN': ('TIN', 16, 'predict', {}, 8),
}


@pytest.mark.parametrize('call', CALLS)
def test_the_block_sees_clips(call, monkeypatch):
    # TIN's shift is compiled code; what it shifts is of no matter here.
    monkeypatch.setattr('mmcv.ops.tin_shift', lambda data, _: data)
    kind, total, mode, meta, frames = CALLS[call]
    model = recognizer(kind)
    x = torch.randn(2, total, 3, 32, 32)
    with torch.no_grad():
        before, after = around(model, x, samples(2, **meta), mode=mode)
        assert len(before) == 2 * total
        torch.testing.assert_close(after, by_hand(model, before, frames))
        assert not torch.equal(after, by_hand(model, before, 1))


def test_crops_of_a_pipeline():
    """Each crop of ThreeCrop is a clip of its own."""
    steps = [
        dict(type='SampleFrames', clip_len=1, num_clips=25, test_mode=True),
        dict(type='ArrayDecode'),
        dict(type='ThreeCrop', crop_size=32),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs', meta_keys=('num_clips',)),
    ]
    video = np.random.randint(0, 256, (40, 32, 50, 3), np.uint8)
    data = dict(array=video, total_frames=40, start_index=0, modality='RGB')
    model = recognizer().eval()
    with DefaultScope.overwrite_default_scope('mmaction'):
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        data = pseudo_collate([pipeline(dict(data, label=0))])
    crops = data['inputs'][0].float().split(25)
    with torch.no_grad():
        _, after = around(
            model, **model.data_preprocessor(data), mode='predict'
        )
        alone = [around(model, crop[None], mode='tensor')[1] for crop in crops]
    torch.testing.assert_close(after, torch.cat(alone))


def test_what_tells_the_frames_of_a_test_sample():
    """Nothing is guessed, and nothing of an earlier call is used."""
    x, y = torch.randn(1, 8, 3, 32, 32), torch.randn(1, 24, 3, 32, 32)
    model = recognizer()
    with torch.no_grad():
        with pytest.raises(ValueError, match="24 frames; add 'num_clips'"):
            model(y, samples(1), mode='predict')
        model(x, samples(1), mode='loss')
        with pytest.raises(ValueError, match='num_segs='):
            model(y, samples(1), mode='predict')
        before, after = around(model, x, samples(1), mode='predict')
        torch.testing.assert_close(after, by_hand(model, before, 8))
        with pytest.raises(ValueError, match='Recognizer2D.* frames=8'):
            model.backbone(x[0])
        with pytest.raises(ValueError, match='24 frames.* clips of 7'):
            model(y, samples(1, num_clips=7), mode='predict')
    for told in (
        recognizer(test_cfg=dict(num_segs=12)),
        recognizer(cls_head=dict(type='TRNHead', num_classes=3,
            in_channels=128, num_segments=12)),
    ):  # fmt: skip
        before, after = around(told.eval(), y, samples(1), mode='predict')
        torch.testing.assert_close(after, by_hand(told, before, 12))


def test_a_fixed_number():
    """It needs no recognizer, but that refuses samples of other lengths."""
    model = recognizer(frames=8)
    model.backbone(torch.randn(16, 3, 32, 32))
    x = torch.randn(8, 25, 3, 32, 32)  # 200 is a multiple of 8
    with pytest.raises(ValueError, match='25 frames, .* whole clips of 8'):
        model(x, samples(8), mode='predict')
    tsm = recognizer('TSM').backbone  # the backbone's own number
    assert tsm.layer2.cgnl_0.arrangement.frames == 8
    tsm(torch.randn(8, 3, 32, 32))
    block, x = CGNL3d(256), torch.randn(16, 3, 32, 32)
    insert_after(tsm, 'layer3.0', block, example=x, frames=True)
    assert block.arrangement.frames == 8


def test_frames_that_the_backbone_pools():
    model = recognizer('pooled', after=['layer1.0', 'layer2.net.0'])
    blocks = model.backbone.layer1.cgnl_0, model.backbone.layer2.net.cgnl_0
    assert [block.arrangement.frames for block in blocks] == [8, 4]


def test_insert_after():
    x = torch.randn(2, 8, 3, 32, 32)
    model, net = recognizer(), recognizer(frames=None)
    insert_after(net, PLACE, CGNL3d(128, **SETTINGS), frames=True)
    assert net.state_dict().keys() == model.state_dict().keys()
    net.load_state_dict(model.state_dict())
    before, after = around(net, x, samples(2), mode='loss')
    torch.testing.assert_close(after, by_hand(model, before, 8))
    net = recognizer(frames=None)  # the recognizer does not learn of it
    insert_after(net.backbone, 'layer2.0', CGNL3d(128), frames=True)
    with pytest.raises(ValueError, match='call the whole model'):
        net(x, samples(2), mode='loss')


def averaged(model):
    return ExponentialMovingAverage(model).module


def compiled(model):
    torch._dynamo.reset()
    return torch.compile(model, backend='eager')


SURVIVE = {
    'copy': copy.deepcopy,
    'pickle': lambda model: pickle.loads(pickle.dumps(model)),
    'EMA': averaged,
    'compile': compiled,
}


@pytest.mark.parametrize('survive', SURVIVE)
def test_survives(survive):
    """A copy has a block of its own, and tells it the frames of its call."""
    model = recognizer().eval()
    survivor = SURVIVE[survive](model)
    options = dict(mode='tensor', stage='head')
    with torch.no_grad():
        for total in (8, 25):
            x = torch.randn(2, total, 3, 32, 32)
            model(torch.randn(1, 4, 3, 32, 32))
            expected = model(x, **options)
            torch.testing.assert_close(survivor(x, **options), expected)


def test_a_stage_that_runs_again_in_backward():
    model = recognizer()
    stage = model.backbone.layer2
    forward = stage.forward
    stage.forward = lambda x: checkpoint(forward, x, use_reentrant=False)
    x = torch.randn(2, 8, 3, 32, 32)
    model(x, samples(2), mode='loss')['loss_cls'].backward()
    assert stage.cgnl_0.theta.weight.grad.any()


def test_tools_see_one_clip():
    model = recognizer().eval()
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
    net = recognizer('TSM').eval().backbone
    x = torch.randn(16, 3, 32, 32)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), net(x))
    net = Exported(recognizer(), 'mmaction').eval()
    x = torch.randn(2, 3, 5, 32, 32)
    shapes = dict(pixels={0: torch.export.Dim('batch')})
    program = torch.export.export(net, (x,), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(x[:1]), net(x[:1]))
    with pytest.raises(ValueError, match='frames=8'):
        torch.export.export(recognizer().backbone, (x[:, :, 0],))
