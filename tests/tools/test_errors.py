"""What the user can put right ends a tool in one line and status 2."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from cgnl_mm.errors import MissingDataError, MissingHostError, SetupError

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize(
    'options, expected',
    [
        (['--resume', 'no.pth'], "--resume: no file 'no.pth'"),
        (['--auto-scale-lr'], 'base_batch_size'),
        (
            ['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'],
            "optim_wrapper.type='ApexOptimWrapper'",
        ),
        (
            ['--cfg-options', 'pipeline.7.type=Resize'],
            'Index 7 exceeds the length',
        ),
    ],
)
def test_options_of_train(project, options, expected, message_of):
    line = message_of('train', project / 'tiny.py', *options)
    assert expected in line


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs no GPU')
def test_amp_without_a_gpu(project, message_of):
    line = message_of('train', project / 'tiny.py', '--amp')
    assert '--amp needs a GPU' in line


def test_missing_checkpoint(project, message_of):
    line = message_of('test', project / 'tiny.py', 'none.pth')
    assert "checkpoint: no file 'none.pth'" in line


def test_wrong_config_path_suggests_the_right_one(message_of):
    line = message_of('train', 'configs/i3d_r18_cgnl_movingdigit.py')
    assert "no config 'configs/i3d_r18_cgnl_movingdigit.py'" in line
    assert 'i3d_r18_cgnl_movingdigits.py' in line.split('Did you mean')[1]


def test_run_without_logs(tmp_path, message_of):
    line = message_of('plot_curves', tmp_path)
    assert f'no logged curves in {str(tmp_path)!r}' in line


def test_new_keys_in_cfg_options_are_noted(
    project, capsys, message_of, load_tool
):
    message_of(
        'train',
        project / 'tiny.py',
        *('--resume', 'no.pth'),
        *('--cfg-options', 'train_cfg.max_epoch=1', 'val_cfg.fp16=False'),
        'optim_wrapper.optimizer.lr=1',
    )
    # message_of has read the first output: once more, for the note
    module = load_tool('train')
    with pytest.raises(SetupError):
        module.main()
    assert (
        'adds train_cfg.max_epoch, val_cfg.fp16: the config had no such key'
        in capsys.readouterr().err
    )


@pytest.fixture
def caught(load_tool):
    def run(function, *args):
        with pytest.raises(Exception) as error:
            function(*args)
        return load_tool('_common').setup_message(error.value)

    return run


def test_message_survives_the_registry(caught):
    @DATASETS.register_module(name='LostData', force=True)
    class LostData:
        def __init__(self):
            raise MissingDataError('no data/lost: run this')

    try:
        assert (
            caught(DATASETS.build, dict(type='LostData'))
            == 'no data/lost: run this'
        )
    finally:
        DATASETS._module_dict.pop('LostData')


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


# ---- installations that lack a package: real ones, without it


@pytest.fixture(scope='module')
def python_without(tmp_path_factory):
    """Return the interpreter of an environment that lacks some packages.

    Its site-packages is this one's, link by link, but for those packages.
    """
    import venv

    import mmengine

    here = Path(mmengine.__file__).parents[1]

    def create(*missing):
        folder = tmp_path_factory.mktemp('env')
        venv.create(folder, symlinks=True)
        (site,) = folder.glob('lib/python*/site-packages')
        for entry in here.iterdir():
            package = entry.name.split('-')[0].split('.')[0]
            if package not in missing and 'cgnl_mm' not in entry.name:
                (site / entry.name).symlink_to(entry)
        return folder / 'bin/python'

    return create


def end_of(done):
    assert 'Traceback' not in done.stderr
    return done.stderr.splitlines()[-1]


def test_missing_hosts(python_without, run_tool, tmp_path):
    python = python_without('mmaction', 'mmaction2', 'mmdet')
    (tmp_path / 'base.py').write_text(
        "_base_ = 'mmaction::_base_/default_runtime.py'\n"
    )
    (tmp_path / 'over.py').write_text("_base_ = './base.py'\n")
    (tmp_path / 'scope.py').write_text("default_scope = 'mmdet'\n")
    for config, host, command in (
        ('over.py', 'mmaction', 'pip install mmaction2==1.2.0'),
        ('scope.py', 'mmdet', 'pip install mmdet==3.3.0'),
    ):
        done = run_tool(
            'train.py', config, cwd=tmp_path, python=python, status=2
        )
        line = end_of(done)
        assert line.startswith(f'error: {host} is not installed')
        assert command in line


def test_missing_host_of_a_config_without_our_adapter(run_tool, tmp_path):
    (tmp_path / 'pose.py').write_text(  # names itself, too
        "_base_ = 'mmpose::_base_/default_runtime.py'\nme = 'pose.py'\n"
    )
    for tool in ('train.py', 'data/check.py', 'get_flops.py'):
        done = run_tool(tool, 'pose.py', cwd=tmp_path, status=2)
        line = end_of(done)
        assert line.startswith('error: mmpose is not installed'), tool
        assert 'pose.py' in line


def test_missing_mmcv(python_without, run_tool, project):
    python = python_without('mmcv', 'mmcv_lite')
    done = run_tool(
        'train.py', 'tiny.py', cwd=project, python=python, status=2
    )
    line = end_of(done)
    assert line.startswith('error: mmcv is not installed')
    assert 'mmcv-lite==2.1.0' in line


def test_missing_mmengine(python_without, run_tool, project):
    python = python_without('mmengine')
    done = run_tool(
        'train.py', 'tiny.py', cwd=project, python=python, status=2
    )
    assert end_of(done).startswith('error: mmengine is not installed')


@pytest.mark.parametrize(
    'config, script',
    [
        ('i3d_r50_cgnl_ucf101', 'ucf101'),
        ('r50_cgnl_cub', 'cub'),
        ('r50_cgnl_imagenet', 'imagenet'),
        ('mask_rcnn_r50_c4_cgnl_coco', 'coco'),
        ('i3d_r50_cgnl_minikinetics', 'minikinetics'),
    ],
)
def test_missing_data_set_names_its_script(
    config, script, tmp_path, monkeypatch, message_of
):
    monkeypatch.chdir(tmp_path)
    path = TOOLS.parent / 'configs' / f'{config}.py'
    line = message_of('train', path)
    assert f'{tmp_path}' in line and 'does not exist' in line
    if script != 'minikinetics':  # says it itself, over several lines
        assert f'python tools/data/{script}.py --help' in line


def test_missing_data_inside_wrappers(tmp_path, load_tool):
    """Each loader alone, through RepeatDataset and ConcatDataset."""
    require_data = load_tool('_missing_data').require_data
    whole = dict(
        type='mmdet.CocoDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img='', seg=None),
    )
    broken = dict(whole, ann_file='gone.json')
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(
                    type='RepeatDataset',
                    dataset=dict(
                        type='ConcatDataset', datasets=[whole, broken]
                    ),
                )
            ),
            val_dataloader=dict(dataset=whole),
        )
    )
    require_data(cfg, ('val', 'test'))
    with pytest.raises(MissingDataError, match='gone.json .* train_data'):
        require_data(cfg, ('train',))
    remote = dict(whole, data_root='s3://bucket/coco')
    require_data(Config(dict(val_dataloader=dict(dataset=remote))), ('val',))


@pytest.mark.parametrize('signal, said', [
    ("Bus error. It is possible that dataloader's workers are out of shared "
     'memory. Please try to raise your shared memory limit.', '/dev/shm'),
    ('Killed. ', 'memory ran out'),
])  # fmt: skip
def test_dead_worker(load_tool, signal, said):
    """The words of PyTorch, for a container's small shared memory."""
    setup_message = load_tool('_common').setup_message
    text = f'DataLoader worker (pid 12) is killed by signal: {signal}'
    assert said in setup_message(RuntimeError(text))
    error = RuntimeError('DataLoader worker (pid(s) 12) exited unexpectedly')
    error.__cause__ = RuntimeError(text)
    assert said in setup_message(error)


def test_reset_connection_of_a_download_is_not_of_a_process(load_tool):
    setup_message = load_tool('_common').setup_message
    text = 'Connection reset by peer'
    assert 'another process' in setup_message(RuntimeError(text))
    # without a traceback, as from another process
    assert setup_message(ConnectionResetError(104, text)) is None
