"""Mini-Kinetics: what the recipe makes of a clip, and how it starts.

How its lists are written is tested in tests/datasets/prepare.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

import cgnl_mm.datasets.mmaction  # noqa: F401
from cgnl_mm.datasets.moving_digits import write_video

ROOT = Path(__file__).parents[2]
TWINS = [f'i3d_r50{block}_minikinetics' for block in ('', '_nl', '_cgnl')]


def load(name='i3d_r50_cgnl_minikinetics'):
    config = Config.fromfile(ROOT / f'configs/{name}.py')
    init_default_scope(config.default_scope)
    return config


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """200 frames of 64 x 96: frame i has level i, the right is 30 lighter."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    ramp = np.linspace(0, 30, 96).round()
    frames = np.arange(200)[:, None, None] + ramp + np.zeros((1, 64, 1))
    write_video(path, frames.astype(np.uint8))
    return path


def views(loader, clip):
    """Views of one sample, and the mean level of each of their frames."""
    pipeline = Compose(load()[loader].dataset.pipeline)
    sample = dict(filename=str(clip), label=0, start_index=0, modality='RGB')
    inputs = pipeline(sample)['inputs']
    return inputs, inputs.float().mean((1, 3, 4))


def test_training_takes_every_other_of_64_frames(clip):
    """Wang et al. 2018, and that at random places."""
    starts = set()
    for _ in range(4):
        inputs, levels = views('train_dataloader', clip)
        assert inputs.shape == (1, 3, 32, 224, 224)
        steps = levels[0].diff()
        assert torch.allclose(steps, torch.full((31,), 2.0), atol=0.6)
        starts.add(round(levels[0, 0].item()))
    assert len(starts) > 1


def test_test_takes_ten_clips_by_three_crops(clip):
    """Crops of 256 that reach from the left to the right border."""
    inputs, levels = views('test_dataloader', clip)
    assert inputs.shape == (30, 3, 32, 256, 256)
    assert torch.allclose(levels.diff(dim=1), torch.tensor(2.0), atol=0.6)
    starts = levels[:, 0].reshape(3, 10)  # crop, clip
    steps = starts.diff(dim=1)
    # evenly from the first to the last of the starts 0 to 136: 9 steps
    assert torch.allclose(steps, torch.tensor(136 / 9), atol=1.2)
    # 256 of 384 columns: the crops lie 64 columns, 5 levels, apart. Their
    # order is mmaction2's matter, the views are averaged
    across = starts.sort(dim=0).values.diff(dim=0)
    assert torch.allclose(across, torch.tensor(5.0), atol=1)
    columns = inputs[::10, :, 0].float().mean((1, 2))  # crop, column
    assert abs(columns.max() - columns.min() - 30) < 2


def test_validation_takes_the_middle(clip):
    inputs, levels = views('val_dataloader', clip)
    assert inputs.shape == (1, 3, 32, 224, 224)
    assert abs(levels.mean() - (99.5 + 15)) < 3


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """The state dict of a ResNet-50 of an eighth of the width, with random
    values; torchvision's own name stands for its file."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    file = tmp_path / 'hub/checkpoints' / Path(weights.url).name
    file.parent.mkdir(parents=True)
    with torch.device('meta'):
        full = torchvision.models.resnet50().state_dict()
    state = {}
    for key, value in full.items():
        shape = [n // 8 if n >= 64 else n for n in value.shape]
        state[key] = torch.rand(shape) + 0.5
        if len(shape) == 4:
            torch.nn.init.kaiming_normal_(state[key])
    torch.save(state, file)
    return state


def test_twins_start_as_one_inflated_network(imagenet):
    """So what they end as is due to the block."""
    x = torch.rand(2, 3, 8, 32, 32)
    outputs = []
    for name in TWINS:
        config = load(name)
        backbone = MODELS.build(dict(config.model.backbone, base_channels=8))
        backbone.init_weights()
        backbone.eval()
        with torch.no_grad():
            outputs.append(backbone(x))
        ours = backbone.state_dict()
        for here, there in (
            ('conv1.conv.weight', 'conv1.weight'),
            ('layer3.5.conv1.conv.weight', 'layer3.5.conv1.weight'),
        ):
            inflated = ours[here].sum(2)
            assert torch.allclose(inflated, imagenet[there], atol=1e-5)
        blocks = {k.split('.')[1] for k in ours if k.startswith('layer3.')}
        assert len(blocks - set('012345')) == (name != TWINS[0])
    assert outputs[0].std() > 0
    assert torch.equal(outputs[1], outputs[0])
    assert torch.equal(outputs[2], outputs[0])


def test_missing_list_is_told_before_weights_are_fetched(
    tmp_path, python, monkeypatch
):
    """Only the one for validation is missing here."""
    for folder in ('data/minikinetics', 'data/kinetics400'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'data/minikinetics/train.txt').write_text('a b.mp4\t1\n')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))
    config = ROOT / f'configs/{TWINS[-1]}.py'
    said = python(ROOT / 'tools/train.py', config, cwd=tmp_path, status=2)
    (line,) = [x for x in said.splitlines() if x.startswith('error: ')]
    assert line.startswith('error: data/minikinetics/val.txt does not exist')
    assert '`python tools/data/minikinetics.py --help` tells' in line
    assert 'Traceback' not in said
    assert not (tmp_path / 'torch_home').exists()
