"""Mistakes in a config or its options: one line that names the way out.

Those of `plugins` alone are in tests/insertion/test_key.py, those of a
block's own settings in tests/blocks/test_errors.py.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.cli.lint import find_mistakes

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'

# lines after those of `tiny.py`, and the error, with gaps: nothing is built
FOUND_IN_THE_FILE = """
optim_wraper = dict(type='OptimWrapper')
error: ... the key 'optim_wraper' of bad.py: did you mean 'optim_wrapper'
train_dataloder = dict(batch_size=2)
error: ... the key 'train_dataloder' ... did you mean 'train_dataloader'

_base_ = './no_base.py'
error: bad.py: its `_base_` ... no_base.py': No such file
model = dict(
error: bad.py, line LAST: '(' was never closed
model['head']['num_classes'] = three
error: ... bad.py, line LAST: NameError: name 'three' is not defined
model['haed'].update(num_classes=3)
error: ... bad.py, line LAST: KeyError: haed
_base_ = 'DEMO'
model = dict(backbone=dict(plugins=dict(
    cfg=dict(type='CGNL3d'), after_blocks=((), (0,), (), ()))))
error: ... bad.py: plugins is a list in the base ... plugins=[dict(...)]

custom_imports.update(imports=['cgnl_m'])
error: custom_imports: No module named 'cgnl_m'
default_scope = 'mmpretain'
error: bad.py: default_scope='mmpretain' is not an installed package
load_from = 'no.pth'
error: load_from: no file 'no.pth'

custom_hooks = dict(type='NumericsHook')
error: custom_hooks must be a list ... got {'type': 'NumericsHook'}
custom_hooks = 'NumericsHook'
error: custom_hooks must be a list ... got 'NumericsHook'
custom_hooks = ['NumericsHook']
error: custom_hooks must be a list ... each item a dict, got ['NumericsHook']
load_from = 3
error: load_from must be text, got 3
resume = 'a.pth'
error: resume='a.pth' ... would start anew ... bad.py --resume a.pth
train_dataloader['num_workers'] = '4'
error: train_dataloader.num_workers must be a number, 0 or more, got '4'
train_dataloader['num_workers'] = -1
error: train_dataloader.num_workers must be a number, 0 or more, got -1
train_dataloader['batch_size'] = 0
error: train_dataloader.batch_size must be a number, 1 or more, got 0
train_dataloader['batch_size'] = '8'
error: train_dataloader.batch_size must be a number, 1 or more, got '8'
train_dataloader = [train_dataloader]
error: train_dataloader must be a dict

plugins = [dict(cfg=dict(type='CGNL2d'), after_blocks=((), (0,), (), ()))]
error: nothing reads `plugins` ... model=dict(backbone=dict(plugins=
"""

OF_A_CLASS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epoch=2)
error: train_cfg: EpochBasedTrainLoop ... 'max_epoch'; did you mean max_epochs?
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs='2')
error: train_cfg: max_epochs='2' of EpochBasedTrainLoop is text: write ...=2
train_cfg = dict(by_epoch=True, max_epoch=2)
error: train_cfg: EpochBasedTrainLoop ... 'max_epoch'; did you mean max_epochs?
train_cfg = dict(by_epoch=False, max_iters='2')
error: train_cfg: max_iters='2' of IterBasedTrainLoop is text

model['backbone']['type'] = 'Resnet'
error: model.backbone.type: no model 'Resnet' ... ResNet
model['backbone']['dept'] = 18
error: model.backbone: ResNet ... 'dept'; did you mean depth
model['backbone']['stem_channels'] = '64'
error: model.backbone: stem_channels='64' of ResNet is text: write ...=64
model['head']['num_class'] = 2
error: model.head: LinearClsHead ... 'num_class'; did you mean num_classes
model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='no.pth')
error: model.backbone.init_cfg: no file 'no.pth' in
model['backbone']['init_cfg'] = [dict(
    type='Pretrained', checkpoint='torchvision://resnet19')]
error: ... 'torchvision://resnet19' ... did you mean resnet18

train_dataloader['dataset']['pipeline'] = [dict(type='LoadImage')]
error: ... no transform 'LoadImage' ... LoadImageFromFile
train_dataloader['dataset']['pipeline'] = [dict(type='RandomFlip', pro=1.0)]
error: ...pipeline.0: RandomFlip ... 'pro'; did you mean prob? It takes prob
train_dataloader['dataset']['type'] = 'CUBs'
error: ... no dataset 'CUBs' ... CUB?
train_dataloader['dataset']['data_root'] = 'data/trian'
error: data/trian does not exist ... and train_dataloader reads it

custom_hooks = [dict(type='CGNLStatisticHook')]
error: custom_hooks.0.type: no hook 'CGNLStatisticHook' ... CGNLStatisticsHook
custom_hooks = [dict(type='NumericsHook', patient=3)]
error: custom_hooks.0: NumericsHook ... 'patient'; did you mean patience

optim_wrapper['optimizer']['type'] = 'Adamw'
error: ... no optimizer 'Adamw' ... AdamW
optim_wrapper['optimizer']['momentun'] = 0.9
error: optim_wrapper.optimizer: SGD ... 'momentun'; did you mean momentum
optim_wrapper['optimizer']['lr'] = '0.01'
error: optim_wrapper.optimizer: lr='0.01' of SGD is text: write lr=0.01
param_scheduler['milestone'] = [3]
error: param_scheduler: MultiStepLR ... 'milestone'; did you mean milestones
"""

REFUSED_FOR_A_BLOCK = """
block(type='CGNL2D')
error: ... no block 'CGNL2D' ... CGNL2d
block(group=2)
error: ...plugins.0.cfg: CGNL2d ... argument 'group'; did you mean groups
block(mode='dotproduct')
error: ... mode must be one of dot_product ... got 'dotproduct'
block(backend='cuda')
error: ... backend must be one of ... got 'cuda'
block(groups=3)
error: ... groups=3 does not divide ... allowed are 1, 2, 4, 8
block(groups='8')
error: ... groups='8' of CGNL2d is text: write groups=8
block(norm_cfg=dict(type='GN', num_groups=5))
error: ... after 'layer2.0' ... num_groups=5
block(norm_cfg=dict(type='GroupNorm2'))
error: ... after 'layer2.0' ... 'GroupNorm2'
block(type='CGNL3d')
error: ... CGNL3d expects (B,
block(after=((), (0,)))
error: ... one tuple of units ... for each of the 4 stages
block(after=((), (2,), (), ()))
error: ... no module 'layer2.2' ... 'layer2' has 0, 1
block(after=((), (), (), ()))
error: ... and name a unit
block()
model['backbone'].update(frozen_stages=2)
error: ... freezes the block (frozen_stages=2 ... allow_frozen=True
block(after=((), (), (0,), ()))
model['backbone'].update(out_indices=(1,))
error: ... 'layer3.0' lies behind the last output
model['backbone'].update(plugins=[dict(cfg=dict(type='CGNL2d'))])
error: ResNet has no plugins of this form ... `after`
"""

SEEN_BY_THE_TRAINING = """
custom_hooks = [dict(type='NumericsHook', patience=0)]
error: NumericsHook: patience must be a whole number of 1 or more, got 0
"""

SEEN_IN_THE_DATA = """
model['head']['num_classes'] = 1
error: train_data...: the label of data/train/b/... is 1 ... from 0 to 0
val_dataloader['dataset'].update(data_root='', data_prefix='three')
error: val_dataloader: the label of ...three/c/0.png is 2 ... from 0 to 1
val_dataloader['dataset'].update(data_root='', data_prefix='one')
error: train has 2 classes and val 1; they differ in b. Their labels would
val_dataloader['dataset'].update(data_root='', data_prefix='none')
error: Found 0 files in subfolders of
load_from = 'http://a:s3cret@127.0.0.1:1/x.pth'
error: a URL cannot be read
train_dataloader['dataset'].update(data_root='', ann_file='fifo')
error: ann_file: 'fifo' is not a file
train_dataloader['dataset'].update(data_root='', ann_file='silent.txt')
error: fifo: no regular file. Repair ... type='UnreadableDataHook'
"""

# commands, and the error
OPTIONS = """
train tiny.py --resume no.pth
error: --resume: no file 'no.pth'
train tiny.py --auto-scale-lr
error: ... auto_scale_lr=dict(base_batch_size=
train tiny.py --amp --cfg-options optim_wrapper.type=ApexOptimWrapper
error: --amp ... optim_wrapper.type='ApexOptimWrapper'
train tiny.py --cfg-options pipeline.7.type=Resize
error: ... Index 7 exceeds the length
train tiny.py --cfg-options train_cfg.milestones=[1,2
error: --cfg-options train_cfg.milestones=[1,2 ... brackets
train tiny.py --cfg-options =3
error: --cfg-options takes KEY=VALUE, got '=3'
train tiny.py --cfg-options model.head.num_classes
error: --cfg-options takes KEY=VALUE, got 'model.head.num_classes'
train tiny.py --work-dir tiny.py
error: work_dir ... tiny.py ... File exists
train tiny.py --work-dir tiny.py/run
error: work_dir ... tiny.py/run ... Not a directory
test tiny.py none.pth
error: checkpoint: no file 'none.pth'
train configs/i3d_r18_cgnl_movingdigit.py
error: no config ... digit.py' ... Did you mean ... digits.py
plot_curves data
error: no logged curves in 'data'
"""

BLOCK = """
def block(after=((), (0,), (), ()), type='CGNL2d', **settings):
    cfg = dict(type=type, **settings)
    model['backbone'].update(
        plugins=[dict(cfg=cfg, after_blocks=after)])

"""


def cases(*tables):
    """Yield the lines of each case and the error below them."""
    lines = []
    for line in ''.join(tables).splitlines():
        if line.startswith('error: '):
            yield pytest.param('\n'.join(lines), line, id=lines[-1].strip())
            lines = []
        elif line:
            lines.append(line)


def pattern(error):
    """Compile an error, in which ``...`` stands for any text."""
    parts = re.split(r' ?\.\.\. ?', error)
    return re.compile('.*'.join(map(re.escape, parts)))


@pytest.fixture
def write(project, tmp_path, monkeypatch):
    """Write a config: lines after those of `tiny.py`, or over the demo."""
    (tmp_path / 'data').symlink_to(project / 'data')
    monkeypatch.chdir(tmp_path)
    tiny = (project / 'tiny.py').read_text() + BLOCK

    def write(lines, name='bad.py'):
        demo = CONFIGS / 'i3d_r18_cgnl_movingdigits.py'
        text = '' if 'DEMO' in lines else tiny
        text += lines.replace('DEMO', str(demo))
        Path(name).write_text(text)
        return name

    return write


@pytest.fixture
def odd_data(write):
    """Make folders of one and of three classes, and a list of a pipe."""
    for folder, names in dict(one='a', three='abc').items():
        for name in names:
            shutil.copytree('data/val/a', Path(folder, name))
    Path('none/a').mkdir(parents=True)
    os.mkfifo('fifo')
    Path('silent.txt').write_text('fifo 0\n')


@pytest.mark.usefixtures('odd_data')
@pytest.mark.parametrize(
    'lines, error',
    cases(
        FOUND_IN_THE_FILE,
        OF_A_CLASS,
        REFUSED_FOR_A_BLOCK,
        SEEN_BY_THE_TRAINING,
        SEEN_IN_THE_DATA,
    ),
)
def test_misuse(write, lines, error, message_of):
    name = write(lines)
    last = len(Path(name).read_text().splitlines())
    message = message_of('train', name)
    assert pattern(error.replace('LAST', str(last))).match(message)


@pytest.mark.parametrize('command, error', cases(OPTIONS))
def test_misuse_of_options(write, command, error, message_of):
    write('', 'tiny.py')
    assert pattern(error).match(message_of(*command.split()))


# a class of a user with a fault of its own
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
    'where, line, kind',
    [
        ('init', 'self.size = [][0]', IndexError),
        ('init', 'self.size = len(None)', TypeError),
        ('init', 'self.size = {}["size"]', KeyError),
        ('init', 'self.size = 1 / 0', ZeroDivisionError),
        # in a function that is given the setting
        ('init', 'self.size = self.double(size)', TypeError),
        ('train', 'self.size["a"]', AttributeError),
        ('train', 'len(runner)', TypeError),
        ('train', 'assert runner is None', AssertionError),
        ('train', 'open("/no/file")', FileNotFoundError),
    ],
)
def test_faults_keep_their_traceback(
    write, run_here, monkeypatch, tmp_path, where, line, kind
):
    code = FAULTY.format(**{'init': 'pass', 'train': 'pass', where: line})
    (tmp_path / 'own_hook.py').write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop('own_hook', None)
    name = write(
        "custom_imports = dict(imports=['cgnl_mm', 'own_hook'])\n"
        "custom_hooks = [dict(type='OwnHook', size=3)]"
    )
    with pytest.raises(kind):
        run_here('train', name)


@pytest.fixture
def weights(write, once, run_tool, tmp_path):
    """Return a checkpoint of `tiny.py`: two classes and no block."""
    name = write('', 'two.py')
    options = '--cfg-options', 'train_cfg.max_epochs=1', '--work-dir'
    made = once(
        'weights of two.py',
        lambda folder: run_tool(
            'train.py', name, *options, folder, cwd=tmp_path
        ),
    )
    path = tmp_path / 'run/epoch_1.pth'
    path.parent.mkdir()
    shutil.copy(made / path.name, path)
    (path.parent / 'last_checkpoint').write_text(str(path))
    return path


def add_a_block(path):
    saved = torch.load(path)
    saved['state_dict']['backbone.layer2.cgnl_0.g.weight'] = torch.ones(1)
    torch.save(saved, path)


def test_other_number_of_classes_than_the_checkpoint(
    write, weights, message_of
):
    """mmengine tests on with a random head."""
    name = write("model['head'].update(num_classes=3)")
    message = message_of('test', name, weights)
    for part in ('head.fc.weight', '(2, 64)', '(3, 64)', 'num_classes'):
        assert part in message

    # a block that the checkpoint does not have
    message = message_of('test', write('block()'), weights)
    assert 'backbone.layer2.cgnl_0.theta.weight' in message
    # and one that the config leaves out
    add_a_block(weights)
    message = message_of('test', 'two.py', weights)
    assert 'backbone.layer2.cgnl_0.g.weight' in message


def test_resume_with_another_network(write, weights, message_of):
    """Another number of classes, a new block, and one that is left out."""
    name = write("model['head'].update(num_classes=3)")
    message = message_of('train', name, '--resume', weights)
    assert f'--resume: {weights} is of another network than bad.py' in message
    assert 'head.fc.weight is (2, 64) there and (3, 64) here' in message

    message = message_of('train', write('block()'), '--resume', weights)
    assert 'backbone.layer2.cgnl_0.theta.weight is not there' in message

    add_a_block(weights)
    # as a job that is queued again, too
    for options in (weights,), ('--work-dir', weights.parent):
        message = message_of('train', 'two.py', '--resume', *options)
        assert 'backbone.layer2.cgnl_0.g.weight is there only' in message


def test_resume_with_another_optimizer(write, weights, message_of):
    """Biases in a group of their own."""
    lines = "optim_wrapper['paramwise_cfg'] = dict(bias_lr_mult=2)"
    message = message_of('train', write(lines), '--resume', weights)
    assert 'parameter group' in message and 'paramwise_cfg' in message


def test_load_from_another_network(write, weights, run_tool, tmp_path):
    """Transfer learning: what is dropped is told, in one line."""

    def start(lines):
        name = write(f'{lines}\nload_from = {str(weights)!r}')
        options = '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1'
        done = run_tool('train.py', name, *options, cwd=tmp_path)
        said = (done.stdout + done.stderr).splitlines()
        return [line for line in said if 'WARNING - load_from: ' in line]

    # a new block is no loss
    assert start('block()') == []
    add_a_block(weights)
    heads, blocks = start("model['head'].update(num_classes=3)")
    assert 'head.fc.weight is (2, 64) there and (3, 64) here' in heads
    assert 'head.fc.bias' in heads and 'stay as initialised' in heads
    assert 'cgnl' not in heads
    assert 'backbone.layer2.cgnl_0.g.weight is there only' in blocks
    torch.save(dict(state_dict=dict(a=torch.ones(1))), weights)
    (nothing,) = start('')
    assert 'nothing in' in nothing


BUILD = """
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile('bad.py')
Runner.from_cfg(Config({**cfg, 'work_dir': 'run'}))
"""


def test_without_custom_imports(write, warm_torch, tmp_path):
    """The page on plugins has what MMEngine alone says then.

    Our own tools import cgnl_mm in any case.
    """
    write('custom_imports.update(imports=[])\nblock()')
    done = subprocess.run(
        [warm_torch, '-c', BUILD],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),  # cgnl_mm can be imported
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (said,) = re.findall(
        "ResNet.__init__.. (got an unexpected keyword argument 'plugins')",
        done.stderr,
    )
    page = (ROOT / 'docs/plugins.md').read_text('utf-8')
    assert f'`{said}` comes from the host: the config lacks `custom_' in page


def test_types_of_our_own_configs_are_right():
    """And of what they inherit from the hosts."""
    files = sorted(CONFIGS.glob('*.py'))
    assert len(files) > 20
    for file in files:
        assert list(find_mistakes(Config.fromfile(file))) == [], file


# mistakes in the configs of the hosts, and weights to be downloaded first
THEIR_OWN = re.compile(
    r"no file '|CocoMetric .* 'eval_mode'|'MOTChallengeMetrics'|key 'models'"
    r"|DecordDecode .* 'io_backend'|FPN .* 'force_grad_on_level'"
    r'|train_dataloader must be a dict, got \('
)


@pytest.mark.parametrize('host', ['mmpretrain', 'mmaction', 'mmdet', 'mmseg'])
def test_configs_of_the_hosts_hold_no_mistakes(host, pytestconfig):
    """Every 60th of two thousand configs; all of them with --all."""
    package = Path(import_module(host).__file__).parent
    sources = [path.read_text() for path in package.rglob('[a-z]*.py')]
    files = sorted((package / '.mim/configs').rglob('*.py'))
    files = [path for path in files if '_base_' not in path.parts]
    found = {}
    for path in files[:: 1 if pytestconfig.option.all else 60]:
        try:
            cfg = Config.fromfile(path)
        except (ImportError, OSError, ValueError):  # of another package
            continue
        for mistake in find_mistakes(cfg):
            missing = re.search(r"no \w+ '(\w+)' is registered", mistake)
            # the host registers some classes with their dependencies alone
            if missing and any(f'class {missing[1]}(' in s for s in sources):
                continue
            if not THEIR_OWN.search(mistake):
                found[mistake] = path.name
    assert found == {}
