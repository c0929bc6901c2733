"""Mistakes in a config or its options: one line that names the way out.

Those of `plugins` alone are in tests/insertion/test_key.py, those of a
block's own settings in tests/blocks/test_errors.py.
"""

import os
import re
import shutil
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.checkpoints import require_whole
from cgnl_mm.cli.lint import find_mistakes
from cgnl_mm.errors import SetupError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'

# lines after those of `tiny.py`, and the error, with gaps: nothing is built
FOUND_IN_THE_FILE = """
optim_wraper = dict(type='OptimWrapper')
error: ... the key 'optim_wraper' of bad.py; did you mean optim_wrapper?
model = None
error: bad.py has no model: nothing to train
_base_ = './no_base.py'
error: bad.py: FileNotFoundError: ... no_base.py'
model = dict(
error: bad.py, line LAST: SyntaxError: '(' was never closed
raise type('Odd', (BaseException,), {})(3)
error: ...bad.py, line LAST: Odd: 3
model['head']['num_classes'] = three
error: ... bad.py, line LAST: NameError: name 'three' is not defined
_base_ = 'DEMO'
model = dict(backbone=dict(plugins=dict(
    cfg=dict(type='CGNL3d'), after_blocks=((), (0,), (), ()))))
error: bad.py: TypeError: plugins=... is of type <class 'list'> in base config
custom_imports.update(imports=['cgnl_m'])
error: custom_imports: No module named 'cgnl_m'
default_scope = 'mmpretain'
error: bad.py: default_scope='mmpretain' is not an installed package
load_from = 'no.pth'
error: load_from: no file 'no.pth'
custom_hooks = ['NumericsHook']
error: custom_hooks must be ...List...Dict... got ['NumericsHook']
train_dataloader['num_workers'] = '4'
error: train_dataloader: num_workers='4' of DataLoader is text: write
train_dataloader['batch_size'] = 0
error: train_dataloader: batch_size must be 1 or more, got 0
train_dataloader['batch_sise'] = 8
error: train_dataloader: DataLoader ... 'batch_sise'; did you mean batch_size
plugins = [dict(cfg=dict(type='CGNL2d'), after_blocks=((), (0,), (), ()))]
error: nothing reads `plugins` ... model=dict(backbone=dict(plugins=
"""

OF_A_CLASS = """
train_cfg = dict(type='EpochBasedTrainLoop', max_epoch=2)
error: train_cfg: EpochBasedTrainLoop ... 'max_epoch'; did you mean max_epochs?
train_cfg = dict(by_epoch=False, max_iters='2')
error: train_cfg: max_iters='2' of IterBasedTrainLoop is text: write ...=2
model['backbone']['type'] = 'Resnet'
error: model.backbone.type: no model 'Resnet' ... ResNet
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
optim_wrapper['optimizer']['type'] = 'Adamw'
error: ... no optimizer 'Adamw' ... AdamW
optim_wrapper['optimizer']['lr'] = float('nan')
error: optim_wrapper.optimizer: lr must be 0 or more, got nan
"""

REFUSED_FOR_A_BLOCK = """
block(type='CGNL2D')
error: ... no block 'CGNL2D' ... CGNL2d
block(group=2)
error: ...plugins.0.cfg: CGNL2d ... argument 'group'; did you mean groups
block(groups='8')
error: ... groups='8' of CGNL2d is text: write groups=8
block(groups=3)
error: ... groups=3 does not divide ... allowed are 1, 2, 4, 8
block(type='CGNL3d')
error: ... CGNL3d expects (B,
block(after=((), (2,), (), ()))
error: ... no module 'layer2.2' ... 'layer2' has 0, 1
block()
model['backbone'].update(frozen_stages=2)
error: ... freezes the block (frozen_stages=2 ... allow_frozen=True
model['backbone'].update(plugins=[dict(cfg=dict(type='CGNL2d'))])
error: ResNet has no plugins of this form ... `after`
"""

SEEN_BY_THE_TRAINING = """
optim_wrapper['optimizer']['momentum'] = -1
error: Invalid momentum value: -1
train_dataloader['dataset'].update(data_root='', data_prefix='loop')
error: ... Too many levels of symbolic links: 'loop/... Remove the link
model['head']['num_classes'] = 1
error: train_data...: the label of data/train/b/... is 1 ... from 0 to 0
val_dataloader['dataset'].update(data_root='', data_prefix='three')
error: val_dataloader: the label of ...three/c/0.png is 2 ... from 0 to 1
val_dataloader['dataset'].update(data_root='', data_prefix='one')
error: train has 2 classes and val 1; they differ in b. Their labels would
train_dataloader.update(batch_size=99, drop_last=True)
error: train_dataloader: fewer samples than batch_size ... leave no batch
load_from = 'http://127.0.0.1:1/x.pth'
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
error: --auto-scale-lr ... base_batch_size
train tiny.py --amp --cfg-options optim_wrapper.type=ApexOptimWrapper
error: --amp needs a GPU, and ... got 'ApexOptimWrapper'. On a CPU, take
train tiny.py --cfg-options pipeline.7.type=Resize
error: tiny.py: Index 7 exceeds the length
train tiny.py --cfg-options train_cfg.milestones=[1,2
error: --cfg-options takes KEY=VALUE, got train_cfg.mil ... brackets
train tiny.py --cfg-options model.head.num_classes
error: --cfg-options takes KEY=VALUE, got model.head.num_classes
train tiny.py --launcher slurm
error: --launcher slurm: SLURM_PROCID is not set. Start the tool by torchrun
train tiny.py --work-dir /proc/x
error: work_dir: '/proc
train tiny.py --work-dir tiny.py
error: work_dir: 'tiny.py' is not a folder
test tiny.py tiny.py --dump a.json
error: --dump writes a .pkl
test tiny.py none.pth
error: checkpoint: no file 'none.pth'
train configs/i3d_r18_cgnl_movingdigit.py
error: no config ... digit.py' ... did you mean ... digits.py
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
    for folder, names in dict(one='a', three='abc', loop='a').items():
        for name in names:
            shutil.copytree('data/val/a', Path(folder, name))
    Path('loop/a/up').symlink_to('.')
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
    ),
)
def test_misuse(write, lines, error, message_of):
    name = write(lines)
    last = len(Path(name).read_text().splitlines())
    message = message_of('train', name)
    assert pattern(error.replace('LAST', str(last))).match(message)


FROM = "_base_ = './above{}'"
PURE = 'from mmengine.config import read_base\n'
PURE += 'with read_base():\n    from .above import *'


@pytest.mark.parametrize('lines, suffix, fault, told', [
    (FROM, '.py', 'a = 1\nb = (', ", line 2: SyntaxError: '(' was never cl"),
    (PURE, '.py', 'a = 1\nb = (', ", line 2: SyntaxError: '(' was never cl"),
    (FROM, '.json', '{"a": 1,\n}', ': JSONDecodeError: ... line 2 column 1'),
    (FROM, '.yaml', 'a: 1\nb: }', ': ...Error: ... line 2, column 4'),
])  # fmt: skip
def test_base_with_a_fault_is_named(
    tmp_path, monkeypatch, message_of, lines, suffix, fault, told
):
    monkeypatch.chdir(tmp_path)
    Path('top.py').write_text(lines.format('.py'))
    Path('above.py').write_text(lines.format(suffix).replace('ove', 'ove2'))
    Path(f'above2{suffix}').write_text(fault)
    error = message_of('get_flops', 'top.py')
    assert pattern(f'error: ...above2{suffix}{told}').match(error)


def test_working_directory_that_is_gone(tmp_path, monkeypatch, message_of):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert 'the working directory is gone' in message_of('train', 'a.py')


@pytest.mark.parametrize('command, error', cases(OPTIONS))
def test_misuse_of_options(write, command, error, message_of):
    write('', 'tiny.py')
    assert pattern(error).match(message_of(*command.split()))


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


@pytest.mark.parametrize('command', ['test {} {}', 'train {} --resume {}'])
def test_checkpoint_of_another_network(write, weights, message_of, command):
    """MMEngine goes on with a random head."""

    def said(name):
        return message_of(*command.format(name, weights).split())

    message = said(write("model['head'].update(num_classes=3)"))
    assert f'{weights} is of another network than bad.py: head.fc' in message
    assert 'weight is (2, 64) there and (3, 64) here (num_classes?)' in message
    # a block that the checkpoint does not have, and one that it has
    missing = 'backbone.layer2.cgnl_0.theta.weight is not there'
    assert missing in said(write('block()'))
    add_a_block(weights)
    assert 'backbone.layer2.cgnl_0.g.weight is there only' in said('two.py')
    # as a job that is queued again
    again = 'two.py', '--resume', '--work-dir', weights.parent
    assert 'cgnl_0.g.weight is there only' in message_of('train', *again)


def test_file_that_no_training_wrote(write, weights, message_of):
    state = torch.load(weights)['state_dict']
    for content, told in (
        (dict(state_dict=state), ' holds weights alone, from which load_from'),
        ([1], ' cannot be read: it holds a list, not a dict'),
        (dict(meta='x'), ' cannot be read: its meta is not a dict'),
        (dict(state, meta=None, optimizer=[]), ': its meta is not a dict'),
    ):
        torch.save(content, weights)
        message = message_of('train', 'two.py', '--resume', weights)
        assert str(weights) in message and told in message
    require_whole(str(weights), 'load_from')  # it takes the weights alone
    with zipfile.ZipFile(weights, 'a') as file:
        file.writestr('archive/constants.pkl', b'of TorchScript')
    with pytest.raises(SetupError, match='no checkpoint of PyTorch'):
        require_whole(str(weights), 'checkpoint')


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
    r'|train_dataloader must be .*, got \('
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
