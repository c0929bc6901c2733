"""Mistakes in a config: one line that names the value and the way out.

Those of `plugins` alone are in tests/backbones/test_errors.py, those of a
block's own settings in tests/blocks/test_errors.py.
"""

import sys
from importlib import import_module

import pytest
import torch

PLUGINS = """
model['backbone'].update(
    type='PluginResNet',
    plugins=[dict(cfg=dict(type={type!r}, {options}), after_blocks={after})])
"""


def block(options='groups=2', type='CGNL2d', after=((), (0,), (), ())):
    return PLUGINS.format(options=options, type=type, after=after)


# lines after those of `tiny.py`, and what the message holds
MISUSES = {
    'typo in a key of the config': (
        "optim_wraper = dict(type='OptimWrapper')",
        ["'optim_wraper'", "did you mean 'optim_wrapper'"],
    ),
    'typo in the data loader of a phase': (
        'train_dataloder = dict(batch_size=2)',
        ["'train_dataloder'", "did you mean 'train_dataloader'"],
    ),
    'typo in the name of a block': (
        block(type='CGNL2D'),
        ["no block 'CGNL2D'", 'CGNL2d'],
    ),
    'typo in a setting of a block': (
        block('group=2'),
        ["'group'", 'groups, reduction'],
    ),
    'unknown kernel': (
        block("mode='dotproduct'"),
        ['mode must be one of dot_product', "'dotproduct'"],
    ),
    'unknown path': (
        block("backend='cuda'"),
        ['backend must be one of', "'cuda'"],
    ),
    'groups that do not divide': (
        block('groups=3'),
        ['groups=3 does not divide', 'allowed are 1, 2, 4, 8'],
    ),
    'groups as text': (
        block("groups='8'"),
        ["groups must be an integer, got '8'"],
    ),
    'a norm that does not fit': (
        block("norm_cfg=dict(type='GN', num_groups=5)"),
        ['unit 0 of layer2', '5'],
    ),
    'an unknown norm': (
        block("norm_cfg=dict(type='GroupNorm2')"),
        ['unit 0 of layer2', 'GroupNorm2'],
    ),
    '2D block by its 3D name': (
        block(type='CGNL3d'),
        ['CGNL3d works on 3', '2d'],
    ),
    'tuple of the wrong length': (
        block(after=((), (0,))),
        ['one tuple of units for each of the 4 stages'],
    ),
    'unit out of range': (
        block(after=((), (2,), (), ())),
        ['(layer2) names unit 2', '-2 to 1'],
    ),
    'block in a frozen stage': (
        block() + "model['backbone'].update(frozen_stages=2)",
        ['layer2 is frozen', 'allow_frozen=True'],
    ),
    'block in a stage that does not run': (
        block(after=((), (), (0,), ()))
        + "model['backbone'].update(out_indices=(1,))",
        ['layer3', 'never be trained'],
    ),
    'plugins for a backbone without them': (
        "model['backbone'].update(plugins=[dict(cfg=dict(type='CGNL2d'), "
        'after_blocks=((), (0,), (), ()))])',
        ["unexpected keyword argument 'plugins'", 'ResNet takes'],
    ),
    'typo in the name of a backbone': (
        "model['backbone']['type'] = 'PluginResnet'",
        ["no 'PluginResnet' among the models of mmpretrain", 'PluginResNet'],
    ),
    'typo in a setting of the backbone': (
        "model['backbone']['dept'] = 18",
        ["unexpected keyword argument 'dept'", 'did you mean depth'],
    ),
    'depth that there is not': (
        "model['backbone']['depth'] = 17",
        ['17'],
    ),
    'typo in the name of a transform': (
        "train_dataloader['dataset']['pipeline'] = [dict(type='LoadImage')]",
        ["no 'LoadImage' among the transforms", 'LoadImageFromFile'],
    ),
    'typo in a setting of a transform': (
        "train_dataloader['dataset']['pipeline'] = [dict("
        "type='RandomFlip', pro=1.0)]",
        ["'pro'", 'RandomFlip takes prob'],
    ),
    'typo in the name of a data set': (
        "train_dataloader['dataset']['type'] = 'CUBs'",
        ["no 'CUBs' among the datasets", 'CUB'],
    ),
    'typo in the name of a hook': (
        "custom_hooks = [dict(type='CGNLStatisticHook')]",
        ["no 'CGNLStatisticHook' among the hooks", 'CGNLStatisticsHook'],
    ),
    'typo in a setting of a hook': (
        "custom_hooks = [dict(type='NumericsHook', patient=3)]",
        ["'patient'", 'NumericsHook takes patience'],
    ),
    'value of a hook out of range': (
        "custom_hooks = [dict(type='UnreadableDataHook', limit=2)]",
        ['limit must be in [0, 1), got 2'],
    ),
    'a dict without type': (
        'custom_hooks = [dict(interval=1)]',
        ['names no type', "{'interval': 1}"],
    ),
    'typo in the name of an optimizer': (
        "optim_wrapper['optimizer']['type'] = 'Adamw'",
        ["no 'Adamw' among the optimizers", 'AdamW'],
    ),
    'typo in a setting of the optimizer': (
        "optim_wrapper['optimizer']['momentun'] = 0.9",
        ["'momentun'", 'did you mean momentum'],
    ),
    'custom_imports of a module that is not there': (
        "custom_imports.update(imports=['cgnl_m'])",
        ['cgnl_m'],
    ),
    'a host that there is not': (
        "default_scope = 'mmpretain'",
        ['mmpretain'],
    ),
    'weights that are not there': (
        "load_from = 'no.pth'",
        ['load_from', "'no.pth'"],
    ),
}


@pytest.fixture
def write(project, tmp_path, monkeypatch):
    (tmp_path / 'data').symlink_to(project / 'data')
    monkeypatch.chdir(tmp_path)

    def write(lines, name='bad.py'):
        text = (project / 'tiny.py').read_text()
        (tmp_path / name).write_text(f'{text}\n{lines}\n')
        return name

    return write


@pytest.mark.parametrize('name', MISUSES)
def test_misuse(write, name, message_of):
    lines, parts = MISUSES[name]
    message = message_of(
        'train', write(lines)
    )
    for part in parts:
        assert part in message


def test_other_number_of_classes_than_the_checkpoint(
    write, run_tool, tmp_path, message_of
):
    """mmengine tests on with a random head."""
    run_tool('train.py', write('train_cfg["max_epochs"] = 1', 'two.py'),
             cwd=tmp_path)  # fmt: skip
    weights = tmp_path / 'work_dirs/two/epoch_1.pth'
    write("model['head'].update(num_classes=3)")
    message = message_of('test', 'bad.py', weights)
    assert 'head.fc.weight' in message
    assert '(2, 64)' in message and '(3, 64)' in message
    assert 'num_classes' in message

    # a block that the checkpoint does not have
    message = message_of(
        'test', write(block()), weights
    )  # fmt: skip
    assert 'backbone.layer2.cgnl_0.theta.weight' in message
    # and one that the config leaves out
    saved = torch.load(weights, weights_only=False)
    saved['state_dict']['backbone.layer2.cgnl_0.g.weight'] = torch.ones(1)
    torch.save(saved, weights)
    message = message_of('test', 'two.py', weights)
    assert 'backbone.layer2.cgnl_0.g.weight' in message


@pytest.mark.parametrize('host', ['mmpretrain', 'mmaction', 'mmdet'])
def test_keys_of_the_hosts_own_configs_are_no_typos(host):
    """Every top-level key of some thousand configs."""
    import re
    from pathlib import Path

    import_module('cgnl_mm')
    sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))
    from _config_errors import unread_keys

    folder = Path(import_module(host).__file__).parent / '.mim/configs'
    keys = {}
    for file in folder.rglob('*.py'):
        text = file.read_text(encoding='utf-8')
        for key in re.findall(r'^(\w+) = ', text, re.MULTILINE):
            keys.setdefault(key, file)
    assert len(keys) > 50
    assert {k: keys[k] for k in unread_keys(keys)} == {}
