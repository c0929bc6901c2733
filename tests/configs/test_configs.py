"""Our configs: twins differ by the block alone, and every tool runs them."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import cgnl_mm  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'
# host, name of the config with the block left out, and what makes a run of
# its own train.py short: options of the data sets, and others
DEMOS = {
    'mmaction': (
        'i3d_r18{}_movingdigits',
        dict(num_train=9, num_test=9, size=32),
        ['model.backbone.base_channels=8', 'model.cls_head.in_channels=64'],
    ),
    'mmpretrain': (
        'r18{}_digits',
        dict(indices=64),
        ['param_scheduler.total_steps=2', 'train_dataloader.batch_size=32'],
    ),
    'mmdet': (
        'mask_rcnn_r18_fpn{}_digitscenes',
        dict(num_train=8, num_test=4),
        # from an lr of 4e-5 on, there are two steps only
        ['train_dataloader.batch_size=4'],
    ),
}
BLOCK = re.compile(
    r'_(?:(?P<kind>nl|cgnlx|cgnl|control)(?P<count>5?)'
    r'(?:_(?P<kernel>eg)|_g(?P<groups>\d+)|_(?P<norm>bn))?)(?=_)'
)
# DESIGN: a name is {model}_{depth}[_{block}[count]]_{dataset}; those of other
# hosts and launchers are apart
EXPERIMENTS = sorted(
    path.stem
    for path in CONFIGS.glob('*.py')
    if not path.stem.startswith('fcn_') and not path.stem.endswith('_fsdp')
)
WITH_BLOCK = [name for name in EXPERIMENTS if BLOCK.search(name)]
# residual units that a block follows: FACTS, section 2
ONE = ((), (), (-2,), ())
FIVE = {
    '50': ((), (1, 3), (1, 3, 5), ()),
    '101': ((), (1, 3), (6, 13, 20), ()),
}
NON_LOCAL = {
    2: dict(type='NonLocal2d', norm_cfg=dict(type='BN')),
    3: dict(type='NonLocal3d', norm_cfg=dict(type='BN3d')),
}
# mmaction2's: comparable with its published rows
NON_LOCAL_KINETICS = dict(
    NON_LOCAL[3], mode='dot_product', use_scale=False, sub_sample=True
)
MODES = {
    'cgnl': {},
    'cgnlx': dict(mode='gaussian_rbf', order=3),
    'control': dict(mode='none'),
}


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def expected_plugin(name):
    """The plugin that the name of a config promises."""
    match = BLOCK.search(name)
    rank = 3 if name.startswith(('c2d', 'i3d')) else 2
    small = name.endswith('_relations')  # three stages, a start that learns
    after = FIVE[re.search(r'_?r(\d+)_', name)[1]] if match['count'] else ONE
    if '_c4_' in name or small:  # the last stage is in the RoI head
        after = after[:3]
    if match['kind'] == 'nl':
        is_kinetics = name.endswith('kinetics400')
        cfg = dict(NON_LOCAL_KINETICS if is_kinetics else NON_LOCAL[rank])
        if small:
            cfg['std'] = 0.1
    else:
        # the paper did not group on UCF101
        groups = match['groups'] or ('1' if 'ucf101' in name else '8')
        cfg = dict(type=f'CGNL{rank}d', groups=int(groups))
        if small:
            cfg.update(init_std=0.1, norm_weight=0.3)
            if match['norm'] or match['kind'] == 'control':
                cfg['norm_cfg'] = dict(type='BN3d')
        cfg.update(MODES[match['kind']])
        if 'r18' not in name:  # the author's start
            cfg['init_std'] = 0.01
    if match['kernel']:
        cfg['mode'] = 'embedded_gaussian'
    return dict(cfg=cfg, after_blocks=after)


def test_twins_differ_by_the_block_that_the_name_says():
    for name in WITH_BLOCK:
        base, twin = load(BLOCK.sub('', name)), load(name)
        assert 'plugins' not in base.model.backbone, name
        (plugin,) = twin.model.backbone.pop('plugins')
        # mmengine reads tuples as tuples, merges them to lists
        found, wanted = map(json.dumps, (plugin, expected_plugin(name)))
        assert json.loads(found) == json.loads(wanted), name
        if name.endswith('ucf101'):  # the splits must not share a folder
            assert twin.pop('work_dir') == f'work_dirs/{name}_split1'
            base.pop('work_dir')
        assert twin.to_dict() == base.to_dict(), name


def test_every_published_row_has_its_config():
    """FACTS, section 3; the issue of this list names them one by one."""
    wanted = {
        *(f'i3d_r{depth}{block}_minikinetics'
          for depth in (50, 101)
          for block in ('', '_nl', '_nl5', '_cgnl', '_cgnl5', '_cgnl_g1',
                        '_cgnl_g4')),
        *(f'i3d_r50{block}_ucf101' for block in ('', '_nl', '_cgnl')),
        *(f'i3d_r50{block}_kinetics400'
          for block in ('', '_nl5', '_nl5_eg', '_cgnl', '_cgnl5')),
        *(f'r{depth}{block}_cub'
          for depth in (50, 101)
          for block in ('', '_nl', '_cgnl', '_nl5', '_cgnl5', '_cgnlx',
                        '_cgnl_eg', '_control', '_cgnl_g1', '_cgnl_g4',
                        '_cgnl_g16', '_cgnl_g32')),
        *(f'r101_cgnl5_g{groups}_cub' for groups in (1, 4, 16, 32)),
        *(f'r{depth}{block}_imagenet{start}'
          for depth in (50, 152)
          for block in ('', '_cgnl', '_cgnlx')
          for start in ('', '_scratch')),
        *(f'mask_rcnn_r50_{neck}{block}_coco'
          for neck in ('c4', 'fpn')
          for block in ('', '_nl', '_cgnl', '_cgnlx')),
        *(name.format(block)
          for name, *_ in DEMOS.values()
          for block in ('', '_nl', '_cgnl')),
        *(f'c2d_r18{block}_relations'
          for block in ('', '_control', '_nl', '_cgnl', '_cgnl_bn')),
        'c2d_r18_digitclips', 'i3d_r18_digitclips', 'i3d_r18_relations',
    }  # fmt: skip
    assert set(EXPERIMENTS) == wanted


def test_experiments_are_short_and_say_how_to_run_them():
    for path in CONFIGS.glob('*.py'):
        lines = path.read_text().splitlines()
        assert len(lines) <= 15, path
        assert lines[0] == f'# python tools/train.py configs/{path.name}'


def host_train(host):
    """The train.py that the host's wheel brings along."""
    package = Path(importlib.import_module(host).__file__).parent
    return package / '.mim' / 'tools' / 'train.py'


@pytest.mark.parametrize('host', DEMOS)
def test_hosts_own_train_runs_ours_and_the_block_learns(
    host, tmp_path, python
):
    """Train with the host's tool, which imports cgnl_mm by the config."""
    name, dataset, options = DEMOS[host]
    options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', *options]
    for loader in ('train_dataloader', 'val_dataloader'):
        options += [f'{loader}.num_workers=0']
        options += [f'{loader}.persistent_workers=False']
        options += [f'{loader}.dataset.{k}={v}' for k, v in dataset.items()]
    said = python(
        host_train(host), CONFIGS / f'{name.format("_cgnl")}.py',
        '--work-dir', 'run', '--cfg-options', *options, off='', cwd=tmp_path,
    )  # fmt: skip
    assert 'Epoch(val)' in said
    state = torch.load(tmp_path / 'run/epoch_1.pth')['state_dict']
    (norm,) = [name for name in state if 'cgnl_0.norm.weight' in name]
    assert norm == 'backbone.layer3.cgnl_0.norm.weight' and state[norm].any()


def test_no_name_is_there_twice():
    """mim looks a config up by its file name, in all folders together."""
    names = [path.name for path in CONFIGS.rglob('*.py')]
    assert len(names) == len(set(names))
