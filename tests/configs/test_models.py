"""Every config's model is built, trains for a step and predicts.

The fast tier trains one of each recipe: each host, each kind of block.
"""

import re
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from cgnl_mm.deploy.model import without_weights

CONFIGS = Path(__file__).parents[2] / 'configs'
# other hosts and launchers have tests of their own
NAMES = sorted(
    path.stem
    for path in CONFIGS.glob('*.py')
    if not path.stem.startswith('fcn_') and not path.stem.endswith('_fsdp')
)
TRAINED = {
    'c2d_r18_cgnl_bn_relations',
    'i3d_r18_cgnl_movingdigits',
    'i3d_r50_cgnl5_minikinetics',
    'i3d_r50_cgnl_ucf101',
    'i3d_r50_nl5_eg_kinetics400',
    'mask_rcnn_r18_fpn_cgnl_digitscenes',
    'mask_rcnn_r50_c4_cgnlx_coco',
    'mask_rcnn_r50_fpn_nl_coco',
    'r18_cgnl_digits',
    'r18_nl_digits',
    'r50_cgnl_eg_cub',
    'r50_cgnlx_imagenet_scratch',
    'r50_control_cub',
}
BLOCK_NORM = (
    r'(cgnl|nonlocal_block|non_local3d)_\d+\.(norm|conv_out\.bn)\.weight'
)


def images(model):
    """Two images, as mmpretrain's loader gives them."""
    from mmpretrain.structures import DataSample

    classes = model.head.num_classes
    samples = [DataSample().set_gt_label(label) for label in (0, classes - 1)]
    size = 64 if classes > 10 else 32
    inputs = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    return dict(inputs=inputs, data_samples=samples)


def clips(model):
    """Two clips, as mmaction2's loader gives them."""
    from mmaction.structures import ActionDataSample

    classes = model.cls_head.num_classes
    samples = [
        ActionDataSample().set_gt_label(label) for label in (0, classes - 1)
    ]
    inputs = torch.randint(0, 256, (2, 1, 3, 8, 32, 32), dtype=torch.uint8)
    return dict(inputs=list(inputs), data_samples=samples)


def scenes(model):
    """One image with two objects, as mmdet's loader gives it."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0], [20.0, 10.0, 60.0, 30.0]])
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8).numpy()
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top:bottom, left:right] = 1
    classes = model.roi_head.bbox_head.num_classes
    size = (64, 64)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, img_id=0)
    meta.update(batch_input_shape=size, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([0, classes - 1]),
        masks=BitmapMasks(masks, 64, 64),
    )
    inputs = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    return dict(inputs=[inputs], data_samples=[sample])


def check_scores(result, model, host):
    """What a prediction holds beyond its shape."""
    if host == 'mmdet':
        instances = result.pred_instances
        assert len(instances.scores) == len(instances.masks)
        assert (instances.scores > 0.04).all()
        return
    head = model.head if host == 'mmpretrain' else model.cls_head
    scores = result.pred_score
    assert scores.shape == (head.num_classes,)
    assert scores.sum().item() == pytest.approx(1, abs=1e-4)


def build(name, init):
    """The model that a config names, its optimizer, its host."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    host = cfg.default_scope
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        model = registry.build(without_weights(cfg.model))
        if init:
            model.init_weights()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    plugins = cfg.model.backbone.get('plugins', [])
    expected = sum(len(u) for p in plugins for u in p['after_blocks'])
    assert len(norms_of_blocks(model)) == expected, name
    return model, optim, host


def norms_of_blocks(model):
    return {
        key: parameter
        for key, parameter in model.named_parameters()
        if re.search(BLOCK_NORM, key)
    }


def test_every_model_is_built(monkeypatch):
    """On a device without memory, so that it takes a moment."""
    # mmpretrain reads the rates of its drop paths from a tensor
    on_cpu = partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', on_cpu)
    for name in NAMES:
        with torch.device('meta'):
            build(name, init=False)


def nightly(name):
    return pytest.param(name, marks=pytest.mark.nightly)


@pytest.mark.parametrize(
    'name', [name if name in TRAINED else nightly(name) for name in NAMES]
)
def test_trains_for_a_step_and_predicts(name):
    model, optim, host = build(name, init=True)
    make = dict(mmpretrain=images, mmaction=clips, mmdet=scenes)[host]
    # a block starts with a norm weight of zero, and one step moves it; CGNL
    # starts on the relations as if it were trained from scratch
    norms = norms_of_blocks(model)
    if not re.search('(cgnl|control).*_relations', name):
        assert all(not weight.any() for weight in norms.values())
    starts = {key: weight.clone() for key, weight in norms.items()}

    model.train()
    losses = model.train_step(make(model), optim)
    assert torch.isfinite(losses['loss'])
    # not of every channel: a dead ReLU behind it gives no gradient
    for key, weight in norms.items():
        assert (weight != starts[key]).float().mean() > 0.5, key

    model.eval()
    batch = make(model)
    with torch.no_grad():
        results = model.test_step(batch)
    assert len(results) == len(batch['inputs'])
    for result in results:
        check_scores(result, model, host)
