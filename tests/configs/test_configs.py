"""Our configs: twins differ by the block alone, and every tool runs them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import cgnl_mm  # noqa: F401

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
# host, name of the config with the block left out, data loaders' options
DEMOS = {
    'mmaction': (
        'i3d_r18{}_movingdigits',
        dict(num_train=9, num_test=9, size=32),
    ),
    'mmpretrain': ('r18{}_digits', {}),
    'mmdet': (
        'mask_rcnn_r18_fpn{}_digitscenes',
        dict(num_train=8, num_test=4, size=64),
    ),
}
TWINS = [name for name, _ in DEMOS.values()] + ['i3d_r50{}_minikinetics']


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.mark.parametrize('block', ['_nl', '_cgnl'])
@pytest.mark.parametrize('name', TWINS)
def test_twins_differ_by_the_block_alone(name, block):
    base, twin = load(name.format('')), load(name.format(block))
    assert 'plugins' not in base.model.backbone
    (plugin,) = twin.model.backbone.pop('plugins')
    rank = 3 if name.startswith('i3d') else 2
    kind = {'_nl': 'NonLocal', '_cgnl': 'CGNL'}[block]
    assert plugin['cfg']['type'] == f'{kind}{rank}d'
    assert tuple(map(tuple, plugin['after_blocks'])) == ((), (), (-2,), ())
    assert twin.to_dict() == base.to_dict()


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem
)
def test_experiment_is_short_and_says_how_to_run_it(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 15
    assert lines[0] == f'# python tools/train.py configs/{path.name}'


def host_train(host):
    """The train.py that the host's wheel brings along."""
    package = Path(importlib.util.find_spec(host).origin).parent
    return package / '.mim' / 'tools' / 'train.py'


@pytest.mark.parametrize('host', DEMOS)
def test_hosts_own_train_runs_ours_and_the_block_learns(host, tmp_path):
    name, dataset = DEMOS[host]
    options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    options += [
        f'{loader}_dataloader.dataset.{key}={value}'
        for loader in ('train', 'val')
        for key, value in dataset.items()
    ]
    if host == 'mmdet':  # from an lr of 4e-5 on, there are two steps only
        options += ['train_dataloader.batch_size=4']
    command = [
        sys.executable, host_train(host),
        CONFIGS / f'{name.format("_cgnl")}.py', '--work-dir', 'run',
        '--cfg-options', *options,
    ]  # fmt: skip
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'Epoch(val)' in result.stdout + result.stderr
    checkpoint = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)
    norms = {
        k: v
        for k, v in checkpoint['state_dict'].items()
        if 'cgnl_0.norm.weight' in k
    }
    assert list(norms) == ['backbone.layer3.cgnl_0.norm.weight']
    assert all(v.abs().max() > 0 for v in norms.values())
