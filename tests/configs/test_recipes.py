"""Recipes hold what their sources say, where a config could hide it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import TRANSFORMS
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

import cgnl_mm  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def learning_rates(cfg, steps):
    """Learning rate of each epoch (or iteration) of a config."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer))
        for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize('name', ['r50_cgnl_cub', 'r152_cgnl_imagenet'])
def test_learning_rate_of_the_authors_code(name):
    """Ten warm-up epochs from 1e-5, drops 31, 61, 81 epochs behind them."""
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == 110
    expected = [
        *np.linspace(1e-5, 1e-2, 10),
        *[1e-2] * 31, *[1e-3] * 30, *[1e-4] * 20, *[1e-5] * 19,
    ]  # fmt: skip
    assert np.allclose(learning_rates(cfg, 110), expected, rtol=1e-6)


def test_learning_rate_of_s1x():
    rates = learning_rates(load('mask_rcnn_r50_c4_cgnl_coco'), 200_000)
    assert rates[0] == pytest.approx(0.01 / 3)
    assert rates[10_000] == pytest.approx(0.01 * 2 / 3, rel=1e-3)
    changes = np.flatnonzero(np.diff(rates[20_000:])) + 20_001
    assert changes.tolist() == [140_000, 180_000]
    assert rates[[20_000, 140_000, 180_000]] == pytest.approx(
        [1e-2, 1e-3, 1e-4]
    )


@pytest.mark.parametrize('height,width', [(375, 500), (500, 200)])
def test_crop_share_above_one_means_what_torchvision_means(height, width):
    """Scale (0.08, 1.25): rejected draws, then the largest central crop."""
    pipeline = load('r50_cgnl_cub').train_pipeline
    (cfg,) = [t for t in pipeline if t.type == 'RandomResizedCrop']
    assert cfg.crop_ratio_range == (0.08, 1.25)
    ours = TRANSFORMS.build(cfg)
    image = np.zeros((height, width, 3), np.uint8)
    theirs = torch.zeros(3, height, width)
    draws = range(20_000)
    crops = np.array([ours.rand_crop_params(image) for _ in draws])
    args = theirs, (0.08, 1.25), (3 / 4, 4 / 3)
    reference = np.array([RandomResizedCrop.get_params(*args) for _ in draws])
    # top, left, height, width; the area has a peak where both fell back
    ours, theirs = (
        np.column_stack([found, found[:, 2] * found[:, 3]])
        for found in (crops, reference)
    )
    for one, other in zip(ours.T, theirs.T):
        assert ks_2samp(one, other).statistic < 0.02


@pytest.mark.parametrize(
    'name, kernel', [('nl5', 'dot-product'), ('nl5_eg', 'embedded-gaussian')]
)
def test_kinetics_non_local_is_the_network_of_mmaction(name, kernel):
    """Our NL twins compute what mmaction2's published NL configs do."""
    ours = load(f'i3d_r50_{name}_kinetics400').model.backbone
    theirs = get_config(
        f'mmaction::recognition/i3d/i3d_imagenet-pretrained-r50-nl-{kernel}_'
        '8xb8-32x2x1-100e_kinetics400-rgb.py'
    ).model.backbone
    ours.pretrained = theirs.pretrained = None
    with DefaultScope.overwrite_default_scope('mmaction'):
        ours, theirs = MODELS.build(ours), MODELS.build(theirs)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith('non_local_block.conv_out.bn.weight'):
                parameter.fill_(1)
    renamed = {
        re.sub(r'(\d+)\.non_local_block', r'non_local3d_\1', key): value
        for key, value in theirs.state_dict().items()
    }
    ours.load_state_dict(renamed)
    ours.eval()
    theirs.eval()
    x = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
