"""A host without an adapter takes the block through its own plugins."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

import cgnl_mm

# mmseg imports the latter two without depending on them
for module in ('mmseg', 'ftfy', 'regex'):
    pytest.importorskip(module)

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/fcn_r50_cgnl_cityscapes.py'
WIDTH, HEIGHT = 64, 32


@pytest.fixture
def cityscapes(tmp_path):
    """Two streets in Cityscapes' layout: in the train and the val split."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind, suffix, pixels in (
            ('leftImg8bit', 'leftImg8bit', rng.integers(0, 256, (32, 64, 3))),
            ('gtFine', 'gtFine_labelTrainIds', rng.integers(0, 19, (32, 64))),
        ):
            path = tmp_path / kind / split / f'town/0_{suffix}.png'
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), pixels.astype(np.uint8))
    return tmp_path


def test_mmseg_trains_and_predicts_by_custom_imports_alone(cityscapes, python):
    """Train with mmseg's own tool, which imports cgnl_mm by the config."""
    package = Path(importlib.util.find_spec('mmseg').origin).parent
    options = [
        'model.pretrained=None',
        # without pretrained weights, mmseg's zero norm before the block
        # would leave it nothing to learn from in the first step
        'model.backbone.zero_init_residual=False',
        f'model.data_preprocessor.size=({HEIGHT},{WIDTH})',
        f'train_dataloader.dataset.pipeline.2.scale={WIDTH, HEIGHT}',
        f'train_dataloader.dataset.pipeline.3.crop_size={HEIGHT, WIDTH}',
        f'val_dataloader.dataset.pipeline.1.scale={WIDTH, HEIGHT}',
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.save_optimizer=False',
        'randomness.seed=0',
    ]
    for loader in ('train_dataloader', 'val_dataloader'):
        options += [f'{loader}.dataset.data_root={cityscapes}']
        options += [f'{loader}.num_workers=0']
        options += [f'{loader}.persistent_workers=False']
    said = python(
        package / '.mim/tools/train.py', CONFIG, '--work-dir', 'run',
        '--cfg-options', *(option.replace(' ', '') for option in options),
        off='', cwd=cityscapes,
    )  # fmt: skip
    assert 'mIoU' in said
    state = torch.load(cityscapes / 'run/iter_1.pth')['state_dict']
    norms = [n for n in state if 'cgnl' in n and n.endswith('norm.weight')]
    # one block in each unit of res4, and each has learnt
    assert {name.split('.cgnl')[0] for name in norms} == {
        f'backbone.layer3.{unit}' for unit in range(6)
    }
    assert all(state[name].any() for name in norms)


@pytest.mark.parametrize('init', [False, True])
def test_new_block_is_the_identity(init):
    """With and without mmseg's own initialisation."""
    from mmseg.registry import MODELS

    cfg = Config.fromfile(CONFIG).model.backbone
    cfg.norm_cfg.type = 'BN'
    cfg.zero_init_residual = False  # else the block's input is zero
    with_blocks = MODELS.build(cfg)
    without = MODELS.build({k: v for k, v in cfg.items() if k != 'plugins'})
    if init:
        with_blocks.init_weights()
    extra = set(with_blocks.state_dict()) - set(without.state_dict())
    assert extra and all('.cgnl' in name for name in extra)
    without.load_state_dict(
        {k: v for k, v in with_blocks.state_dict().items() if k not in extra}
    )
    blocks = [isinstance(m, cgnl_mm.CGNL2d) for m in with_blocks.modules()]
    assert sum(blocks) == 6
    x = torch.randn(1, 3, HEIGHT, WIDTH)
    for ours, theirs in zip(with_blocks(x), without(x)):
        assert torch.equal(ours, theirs)
