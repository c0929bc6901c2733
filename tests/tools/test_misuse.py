"""Mistakes in a config: one line that names the value and the way out.

Those of `plugins` alone are in tests/backbones/test_errors.py, those of a
block's own settings in tests/blocks/test_errors.py.
"""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
PLUGINS = """
model['backbone'].update(
    type='PluginResNet',
    plugins=[dict(cfg=dict(type={type!r}, {options}), after_blocks={after})])
"""


# the video demo instead of `tiny.py`
ACTION = f"""
_base_ = {str(CONFIGS / 'i3d_r18_cgnl_movingdigits.py')!r}
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
        ['ResNet: ', 'depth 17'],
    ),
    'depth as text': (
        "model['backbone']['depth'] = '18'",
        ['ResNet: ', "depth='18' is text: write depth=18"],
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
    # ---- while the config is read
    'a base that is not there': (
        "_base_ = './no_base.py'",
        ['bad.py', '_base_', 'no_base.py', 'No such file'],
    ),
    'a bracket that is not closed': (
        'model = dict(',
        ['bad.py, line 35', "'(' was never closed"],
    ),
    'a name that is not defined': (
        "model['head']['num_classes'] = three",
        ['bad.py, line 35', "name 'three' is not defined"],
    ),
    'a key that the config does not have': (
        "model['haed'].update(num_classes=3)",
        ['bad.py, line 35', 'KeyError', 'haed'],
    ),
    'plugins as a dict over the list of a base': (
        ACTION
        + """
model = dict(backbone=dict(plugins=dict(
    cfg=dict(type='CGNL3d'), after_blocks=((), (0,), (), ()))))""",
        ['bad.py', 'plugins is a list in the base', 'plugins=[dict(...)]'],
    ),
    # ---- what the Runner takes
    'hooks as a dict': (
        "custom_hooks = dict(type='NumericsHook')",
        ['custom_hooks must be a list', "{'type': 'NumericsHook'}"],
    ),
    'a hook by its name': (
        "custom_hooks = 'NumericsHook'",
        ['custom_hooks must be a list', "'NumericsHook'"],
    ),
    'hooks by their names': (
        "custom_hooks = ['NumericsHook']",
        ['each item a dict', "['NumericsHook']"],
    ),
    'a default hook as a number': (
        "default_hooks['checkpoint'] = 3",
        ['hook should be an instance of Hook or dict', '3'],
    ),
    'weights as a number': (
        'load_from = 3',
        ['load_from must be text, got 3'],
    ),
    'a path to resume from': (
        "resume = 'a.pth'",
        ["resume='a.pth'", 'start anew', 'bad.py --resume a.pth'],
    ),
    'no optimizer': (
        'optim_wrapper = None',
        ['either all None or not None', 'optim_wrapper=None'],
    ),
    'no data to train on': (
        'train_dataloader = None',
        ['either all None or not None', 'train_dataloader=None'],
    ),
    'typo in the settings of the loop': (
        'train_cfg = dict(by_epoch=True, max_epoch=2)',
        ["'max_epoch'", 'EpochBasedTrainLoop', 'did you mean max_epochs'],
    ),
    'epochs as text': (
        "train_cfg['max_epochs'] = '2'",
        ["max_epochs='2' is text: write max_epochs=2"],
    ),
    'interval as text': (
        "train_cfg['val_interval'] = '2'",
        ["val_interval='2' is text: write val_interval=2"],
    ),
    'learning rate as text': (
        "optim_wrapper['optimizer']['lr'] = '0.01'",
        ["SGD: lr='0.01'", 'write lr=0.01'],
    ),
    'milestones as a number': (
        "param_scheduler['milestones'] = 3",
        ['MultiStepLR: milestones=3', 'not iterable'],
    ),
    'no samples in a batch': (
        "train_dataloader['batch_size'] = 0",
        ['batch_size=0'],
    ),
    'batch size as text': (
        "train_dataloader['batch_size'] = '8'",
        ["batch_size='8' is text"],
    ),
    'workers as text': (
        "train_dataloader['num_workers'] = '4'",
        ['train_dataloader.num_workers must be a number', "'4'"],
    ),
    'a list of loaders': (
        'train_dataloader = [train_dataloader]',
        ['train_dataloader must be a dict'],
    ),
    'negative workers': (
        "train_dataloader['num_workers'] = -1",
        ['num_workers', 'non-negative'],
    ),
    # ---- files that are not there
    'wrong folder of the data': (
        "train_dataloader['dataset']['data_root'] = 'data/trian'",
        ['CustomDataset', "no file or folder 'data/trian/'"],
    ),
    'initial weights that are not there': (
        "model['backbone']['init_cfg'] = dict("
        "type='Pretrained', checkpoint='no.pth')",
        ['weights of ResNet', "no file 'no.pth'"],
    ),
    'a network that torchvision does not have': (
        "model['backbone']['init_cfg'] = dict("
        "type='Pretrained', checkpoint='torchvision://resnet19')",
        ["'torchvision://resnet19'", 'did you mean', 'resnet18'],
    ),
    # ---- what a backbone takes
    'more frozen stages than there are': (
        "model['backbone']['frozen_stages'] = 9",
        ['ResNet: frozen_stages=9', '-1 to 4'],
    ),
    'the same with blocks': (
        block() + "model['backbone']['frozen_stages'] = 9",
        ['PluginResNet: frozen_stages=9', '-1 to 4'],
    ),
    'an output that there is not': (
        "model['backbone']['out_indices'] = (4,)",
        ['ResNet: out_indices=(4,)', 'max(out_indices) < num_stages'],
    ),
    'plugins of a base for a backbone without them': (
        ACTION + "model = dict(backbone=dict(type='ResNet3d'))",
        ["unexpected keyword argument 'plugins'", "type='PluginResNet3d'"],
    ),
    # ---- a block that nobody would miss
    'plugins beside the model': (
        "plugins = [dict(cfg=dict(type='CGNL2d'), "
        'after_blocks=((), (0,), (), ()))]',
        ['nothing reads `plugins`', 'model=dict(backbone=dict(plugins='],
    ),
    'plugins that name no unit': (
        block(after=((), (), (), ())),
        ['names no unit', 'no block would be built'],
    ),
    # ---- the first iteration
    'fewer classes than labels': (
        "model['head']['num_classes'] = 1",
        ['label 1', 'num_classes=1'],
    ),
    'fewer classes than labels, in mmaction': (
        ACTION
        + """
model = dict(cls_head=dict(num_classes=1))
data = dict(num_train=16, num_test=8)
loader = dict(num_workers=0, persistent_workers=False, dataset=data)
train_dataloader = val_dataloader = loader
""",
        ['out of the range of num_classes=1'],
    ),
    'channels of the head that do not fit': (
        "model['head']['in_channels'] = 32",
        ['head.fc', 'in_channels=32', '64 come in'],
    ),
}

# options of train.py, and what the message holds
OPTIONS = {
    'a work folder that is a file': (
        ['--work-dir', 'tiny.txt'],
        ['work_dir', 'tiny.txt', 'File exists'],
    ),
    'a work folder below a file': (
        ['--work-dir', 'tiny.txt/run'],
        ['work_dir', 'tiny.txt/run', 'Not a directory'],
    ),
    'an option with an open bracket': (
        ['--cfg-options', 'train_cfg.milestones=[1,2'],
        ['--cfg-options train_cfg.milestones=[1,2', 'brackets'],
    ),
    'an option without a key': (
        ['--cfg-options', '=3'],
        ['--cfg-options takes KEY=VALUE', "'=3'"],
    ),
    'an option without a value': (
        ['--cfg-options', 'model.head.num_classes'],
        ['--cfg-options takes KEY=VALUE', "'model.head.num_classes'"],
    ),
}


@pytest.fixture
def write(project, tmp_path, monkeypatch):
    (tmp_path / 'data').symlink_to(project / 'data')
    monkeypatch.chdir(tmp_path)

    def write(lines, name='bad.py'):
        text = (project / 'tiny.py').read_text()
        if lines.startswith(ACTION):
            text = ''
        (tmp_path / name).write_text(f'{text}\n{lines}\n')
        return name

    return write


@pytest.mark.parametrize('name', MISUSES)
def test_misuse(write, name, message_of):
    lines, parts = MISUSES[name]
    message = message_of('train', write(lines))
    for part in parts:
        assert part in message


@pytest.mark.parametrize('name', OPTIONS)
def test_misuse_of_options(write, name, message_of, tmp_path):
    (tmp_path / 'tiny.txt').touch()
    options, parts = OPTIONS[name]
    message = message_of('train', write(''), *options)
    for part in parts:
        assert part in message


# classes of a user with a fault of their own, and what the traceback ends in
FAULTY = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class OwnHook(Hook):
    def __init__(self, size=3):
        {init}

    def before_train(self, runner):
        {train}

    def double(self, size):
        return size + self
"""


@pytest.mark.parametrize(
    'lines, kind',
    [
        (dict(init='self.size = [][0]'), IndexError),
        (dict(init='self.size = len(None)'), TypeError),
        (dict(init='self.size = {}["size"]'), KeyError),
        (dict(init='self.size = 1 / 0'), ZeroDivisionError),
        # in a function that is given the setting
        (dict(init='self.size = self.double(size)'), TypeError),
        (dict(train='self.size["a"]'), AttributeError),
        (dict(train='len(runner)'), TypeError),
        (dict(train='assert runner is None'), AssertionError),
        (dict(train='open("/no/file")'), FileNotFoundError),
    ],
)
def test_faults_keep_their_traceback(
    write, load_tool, monkeypatch, tmp_path, lines, kind
):
    code = FAULTY.format(**{'init': 'pass', 'train': 'pass', **lines})
    (tmp_path / 'own_hook.py').write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop('own_hook', None)
    name = write(
        "custom_imports = dict(imports=['cgnl_mm', 'own_hook'])\n"
        "custom_hooks = [dict(type='OwnHook', size=3)]"
    )
    module = load_tool('train')
    monkeypatch.setattr(sys, 'argv', ['train', name])
    with pytest.raises(kind):
        module.run(module.main)


@pytest.fixture
def weights(write, run_tool, tmp_path):
    """Of `tiny.py`, with two classes and no block."""
    run_tool('train.py', write('train_cfg["max_epochs"] = 1', 'two.py'),
             cwd=tmp_path)  # fmt: skip
    return tmp_path / 'work_dirs/two/epoch_1.pth'


def test_other_number_of_classes_than_the_checkpoint(
    write, weights, message_of
):
    """mmengine tests on with a random head."""
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
    saved = torch.load(weights)
    saved['state_dict']['backbone.layer2.cgnl_0.g.weight'] = torch.ones(1)
    torch.save(saved, weights)
    message = message_of('test', 'two.py', weights)
    assert 'backbone.layer2.cgnl_0.g.weight' in message


def with_a_block(path):
    saved = torch.load(path)
    saved['state_dict']['backbone.layer2.cgnl_0.g.weight'] = torch.ones(1)
    torch.save(saved, path)


def test_resume_with_another_network(write, weights, message_of):
    """Another number of classes, a new block, and one that is left out."""
    name = write("model['head'].update(num_classes=3)")
    message = message_of('train', name, '--resume', weights)
    assert f'--resume: {weights} is of another network than bad.py' in message
    assert 'head.fc.weight is (2, 64) there and (3, 64) here' in message

    message = message_of('train', write(block()), '--resume', weights)
    assert 'backbone.layer2.cgnl_0.theta.weight is not there' in message

    with_a_block(weights)
    # as a job that is queued again, too
    for options in (weights,), ('--work-dir', weights.parent):
        message = message_of('train', 'two.py', '--resume', *options)
        assert 'backbone.layer2.cgnl_0.g.weight is there only' in message


def test_resume_with_another_optimizer(write, weights, message_of):
    """Biases in a group of their own."""
    lines = "optim_wrapper['paramwise_cfg'] = dict(bias_lr_mult=2)"
    message = message_of('train', write(lines), '--resume', weights)
    assert 'parameter group' in message and 'paramwise_cfg' in message


def warnings_of(done):
    return [
        x
        for x in (done.stdout + done.stderr).splitlines()
        if 'WARNING - load_from: ' in x
    ]


def test_load_from_another_network(write, weights, run_tool, tmp_path):
    """Transfer learning: what is dropped is told, in one line."""

    def start(lines):
        name = write(f'{lines}\nload_from = {str(weights)!r}')
        options = ('--cfg-options', 'train_cfg.max_epochs=1')
        return warnings_of(
            run_tool('train.py', name, *options, '--no-validate',
                     cwd=tmp_path)
        )  # fmt: skip

    # a new block is no loss
    assert start(block()) == []
    with_a_block(weights)
    heads, blocks = start("model['head'].update(num_classes=3)")
    assert 'head.fc.weight is (2, 64) there and (3, 64) here' in heads
    assert 'head.fc.bias' in heads and 'stay as initialised' in heads
    assert 'cgnl' not in heads
    assert 'backbone.layer2.cgnl_0.g.weight is there only' in blocks
    torch.save(dict(state_dict=dict(a=torch.ones(1))), weights)
    (nothing,) = start('')
    assert 'nothing in' in nothing


def test_without_custom_imports(write, tmp_path):
    """README's table of messages has what MMEngine alone says then.

    Our own tools import cgnl_mm in any case.
    """
    name = write(block())
    text = (tmp_path / name).read_text()
    first = "custom_imports = dict(imports=['cgnl_mm'], "
    assert first in text
    (tmp_path / name).write_text(
        text.replace(first, 'unread_imports = dict(imports=[], ')
    )
    code = (
        'from mmengine.config import Config\n'
        'from mmengine.runner import Runner\n'
        f'cfg = Config.fromfile({name!r})\n'
        "Runner.from_cfg(Config({**cfg, 'work_dir': 'run'}))\n"
    )
    code = f'import sys; sys.path.append({str(ROOT)!r})\n{code}'
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode
    (said,) = re.findall('PluginResNet (is not in the) .* registry',
                         done.stderr)  # fmt: skip
    table = (ROOT / 'README.md').read_text()
    assert f'`... {said} ... registry` | the config lacks `custom_' in table


def test_types_of_our_own_configs_are_right():
    """And of what they inherit from the hosts."""
    import_module('cgnl_mm')
    from mmengine.config import Config

    sys.path.insert(0, str(ROOT / 'tools'))
    from _config_checks import find_mistakes

    files = sorted(CONFIGS.glob('*.py'))
    assert len(files) > 20
    for file in files:
        assert list(find_mistakes(Config.fromfile(file))) == [], file


@pytest.mark.nightly
@pytest.mark.parametrize('host', ['mmpretrain', 'mmaction', 'mmdet'])
def test_keys_of_the_hosts_own_configs_are_no_typos(host):
    """Every top-level key of some thousand configs."""
    import_module('cgnl_mm')
    sys.path.insert(0, str(ROOT / 'tools'))
    from _config_checks import unread_keys

    folder = Path(import_module(host).__file__).parent / '.mim/configs'
    keys = {}
    for file in folder.rglob('*.py'):
        text = file.read_text(encoding='utf-8')
        for key in re.findall(r'^(\w+) = ', text, re.MULTILINE):
            keys.setdefault(key, file)
    assert len(keys) > 50
    assert {k: keys[k] for k in unread_keys(keys)} == {}
