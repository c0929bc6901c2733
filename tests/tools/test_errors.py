"""What the user can put right ends a tool in one line and status 2."""

import errno
import importlib.util
import shlex
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from mmengine.config import Config

from cgnl_mm.cli import require_data
from cgnl_mm.cli.errors import setup_message
from cgnl_mm.errors import MissingDataError, MissingHostError, SetupError

TOOLS = Path(__file__).parents[2] / 'tools'


def test_new_keys_in_cfg_options_are_noted(project, capsys, run_here):
    with pytest.raises(SystemExit):
        run_here(
            'train', project / 'tiny.py', '--resume', 'no.pth',
            '--cfg-options', 'train_cfg.max_epoch=1', 'val_cfg.fp16=False',
            'optim_wrapper.optimizer.lr=1', 'auto_scale_lr.enable=True',
            'custom_hooks=[]',
        )  # fmt: skip
    said = capsys.readouterr().err
    assert 'has no val_cfg.fp16, auto_scale_lr.enable: the options' in said
    assert 'did you mean max_epochs?' in said


@pytest.fixture
def caught():
    def run(function, *args):
        with pytest.raises(Exception) as error:
            function(*args)
        return setup_message(error.value)

    return run


def test_message_survives_custom_imports(tmp_path, monkeypatch, caught):
    """MMEngine raises two ImportErrors over the one of the module."""
    (tmp_path / 'needs_a_host.py').write_text(
        'from cgnl_mm.errors import MissingHostError\n'
        "raise MissingHostError('install that')\n"
    )
    (tmp_path / 'c.py').write_text(
        "custom_imports = dict(imports=['needs_a_host'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert caught(Config.fromfile, tmp_path / 'c.py') == 'install that'


class Unreadable(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise MissingHostError('no decoder: install one')


def test_message_survives_a_dataloader_worker(caught):
    loader = torch.utils.data.DataLoader(Unreadable(), num_workers=1)
    assert caught(list, loader) == 'no decoder: install one'


def fault_after_setup_error():
    try:
        raise SetupError('first way is closed')
    except SetupError:
        return {}['second way']


@pytest.mark.parametrize(
    'fault', [fault_after_setup_error, lambda: 1 / 0, lambda: open('/no')]
)
def test_faults_keep_their_traceback(fault, caught):
    assert caught(fault) is None


# This program runs a tool with another folder in place of site-packages.
ELSEWHERE = """
import runpy, sys
sys.path[sys.path.index({here!r})] = {there!r}
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition('/')[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
NO_HOSTS = 'mmaction', 'mmaction2', 'mmdet'


@pytest.mark.parametrize(
    'config, missing, name, command',
    [
        ('over.py', NO_HOSTS, 'mmaction', 'pip install mmaction2==1.2.0'),
        ('scope.py', NO_HOSTS, 'mmdet', 'pip install mmdet==3.3.0'),
        ('scope.py', ('mmcv', 'mmcv_lite'), 'mmcv', 'mmcv-lite==2.1.0'),
        ('scope.py', ('mmengine',), 'mmengine', 'pip install mmengine'),
    ],
)
def test_missing_packages(
    config, missing, name, command, warm_torch, run_tool, tmp_path
):
    """Link every installed package to a new folder, but for the missing."""
    here = Path(importlib.util.find_spec('mmengine').origin).parents[1]
    there = tmp_path / 'site-packages'
    there.mkdir()
    for entry in here.iterdir():
        package = entry.name.split('-')[0].split('.')[0]
        if package not in missing and 'cgnl_mm' not in entry.name:
            (there / entry.name).symlink_to(entry)
    code = ELSEWHERE.format(here=str(here), there=str(there))
    python = tmp_path / 'python'
    python.write_text(
        f'#!/bin/sh\nexec {warm_torch} -c {shlex.quote(code)} "$@"\n'
    )
    python.chmod(0o755)
    (tmp_path / 'base.py').write_text(
        "_base_ = 'mmaction::_base_/default_runtime.py'\n"
    )
    (tmp_path / 'over.py').write_text("_base_ = './base.py'\n")
    (tmp_path / 'scope.py').write_text("default_scope = 'mmdet'\n")
    done = run_tool('train.py', config, cwd=tmp_path, python=python, status=2)
    assert 'Traceback' not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f'error: {name} is not installed')
    assert command in line


@pytest.mark.parametrize('tool', ['train', 'data/check', 'get_flops'])
def test_missing_host_of_a_config_without_our_adapter(
    tool, message_of, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    Path('pose.py').write_text(  # names itself, too
        "_base_ = 'mmpose::_base_/default_runtime.py'\nme = 'pose.py'\n"
    )
    line = message_of(tool, 'pose.py')
    assert line.startswith('error: mmpose is not installed')
    assert 'pose.py' in line


@pytest.mark.parametrize(
    'config, told',
    [
        ('i3d_r50_cgnl_ucf101', 'python tools/data/ucf101.py --help'),
        ('i3d_r50_minikinetics', 'python tools/data/minikinetics.py --help'),
        ('r50_cgnl_cub', 'configs/README.md'),
    ],
)
def test_missing_data_set_says_where_to_look(
    config, told, tmp_path, monkeypatch, message_of
):
    monkeypatch.chdir(tmp_path)
    path = TOOLS.parent / 'configs' / f'{config}.py'
    line = message_of('train', path)
    assert f'does not exist (seen from {tmp_path})' in line
    assert told in line


def test_missing_data_inside_wrappers(tmp_path):
    """Each loader alone, through RepeatDataset and ConcatDataset."""
    folder, prefix = str(tmp_path), dict(img='', seg=None)
    whole = dict(
        type='mmdet.CocoDataset', data_root=folder, data_prefix=prefix
    )
    broken = dict(whole, ann_file='gone.json')
    both = dict(type='ConcatDataset', datasets=[whole, broken])
    repeated = dict(type='RepeatDataset', dataset=both)
    loaders = dict(train=repeated, val=whole)
    cfg = Config(
        {f'{k}_dataloader': dict(dataset=loaders[k]) for k in loaders}
    )
    require_data(cfg, ('val', 'test'))
    with pytest.raises(MissingDataError, match='gone.json .* train_data'):
        require_data(cfg, ('train',))
    remote = dict(whole, data_root='s3://bucket/coco')
    require_data(Config(dict(val_dataloader=dict(dataset=remote))), ('val',))


def test_data_set_that_downloads_may_lack_its_data(tmp_path):
    def require(kind):
        data = dict(type=kind, data_root=str(tmp_path / 'no'), split='train')
        loader = dict(dataset=dict(data, data_prefix=data['data_root']))
        require_data(Config(dict(train_dataloader=loader)), ('train',))

    require('mmpretrain.MNIST')
    with pytest.raises(MissingDataError, match='no does not exist'):
        require('mmpretrain.VOC')


def test_dead_worker():
    """The words of PyTorch, alone and as the cause."""
    text = 'DataLoader worker (pid 12) is killed by signal: Bus error. It is'
    assert '/dev/shm' in setup_message(RuntimeError(text))
    error = RuntimeError('DataLoader worker (pid(s) 12) exited unexpectedly')
    assert 'memory ran out' in setup_message(error)
    error = setup_message(UnpicklingError('not allowed.\nIn PyTorch 2.6 we'))
    assert error.endswith('more than tensors and plain values: not allowed.')
    told = setup_message(OSError(errno.EMFILE, 'Too many open files'))
    assert 'ulimit -n' in told
    assert setup_message(OSError(errno.ENOENT, 'a dead socket')) is None
    text = 'transformers is not installed, please install it by: pip'
    assert setup_message(RuntimeError(text)) == text  # mmdet's


def test_reset_connection_of_a_download_is_not_of_a_process():
    text = 'Connection reset by peer'
    assert 'another process' in setup_message(RuntimeError(text))
    # without a traceback, as from another process
    assert setup_message(ConnectionResetError(104, text)) is None
