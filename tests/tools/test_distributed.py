"""Several processes compute what one does: DDP, two nodes, FSDP."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIG = ROOT / 'configs/i3d_r18_cgnl_movingdigits.py'
FSDP = ROOT / 'configs/i3d_r18_cgnl_movingdigits_fsdp.py'

# the demo, small, with nothing random after the initialisation
SMALL = """
_base_ = {base!r}
custom_imports = dict(imports=['cgnl_mm', 'recording_hook'])
custom_hooks = [dict(type='RecordingHook', attend={attend})]
model = dict(
    backbone=dict(base_channels=8{backbone}),
    cls_head=dict(in_channels=64, dropout_ratio=0.))
train_pipeline = _base_.train_pipeline
train_pipeline[3].flip_ratio = 0.
data = dict(num_train=16, num_test=8, size=32)
train_dataloader = dict(
    batch_size={batch}, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=train_pipeline, **data),
    sampler=dict(shuffle=False))
val_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs})
param_scheduler = _base_.param_scheduler
param_scheduler[0].total_steps = {epochs}
optim_wrapper = dict(clip_grad={clip})
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
"""
# BatchNorm would take its statistics per process. Of several orders, so that
# theta, phi and g all have gradients that are more than rounding.
EXACT = """, norm_eval=True, zero_init_residual=False, plugins=[
        dict(
            cfg=dict(type='CGNL3d', groups=8),
            after_blocks=((), (), (-2, ), ())),
        dict(
            cfg=dict(type='CGNL3d', groups=4, mode='learnable'),
            after_blocks=((), (0, ), (), ()))]"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where all of this file runs: the clips are written once."""
    return tmp_path_factory.mktemp('distributed')


def write_config(
    folder,
    name,
    base=CONFIG,
    batch=4,
    epochs=1,
    clip=None,
    backbone='',
    attend=False,
):
    (folder / f'{name}.py').write_text(
        SMALL.format(
            base=str(base),
            batch=batch,
            epochs=epochs,
            clip=clip,
            backbone=backbone,
            attend=attend,
        )
    )


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def start(tool, *args, folder, **env):
    """Start a tool or launcher; env holds variables such as NNODES."""
    program = 'bash' if tool.endswith('.sh') else sys.executable
    names = ('LOCAL_RANK', 'PORT', 'NNODES', 'NODE_RANK', 'MASTER_ADDR')
    env = {
        **{k: v for k, v in os.environ.items() if k not in names},
        'PYTHON': sys.executable,
        'PYTHONPATH': str(HERE),
        **env,
    }
    return subprocess.Popen(
        [program, ROOT / 'tools' / tool, *map(str, args)],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process, status=0):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == status, output[-5000:]
    return output


def records(run):
    """What the processes of a run wrote down, by rank."""
    return [torch.load(path) for path in sorted(run.glob('rank?.pt'))]


@pytest.fixture(scope='module')
def one_and_two(folder):
    """The same 8 clips: one process, and two with 4 each."""
    write_config(folder, 'one', batch=8, backbone=EXACT, attend=True)
    write_config(folder, 'two', batch=4, backbone=EXACT, attend=True)
    finish(start('train.py', 'one.py', '--no-validate', folder=folder))
    finish(start('dist_train.sh', 'two.py', 2, '--no-validate', folder=folder))
    return records(folder / 'work_dirs/one'), records(folder / 'work_dirs/two')


def test_gradients_of_two_processes_equal_those_of_one(one_and_two):
    (one,), two = one_and_two
    assert [record['world_size'] for record in two] == [2, 2]
    expected = one['gradients']
    blocks = [name for name in expected if 'cgnl' in name]
    # theta, phi, g, W_z, weight and bias of the norm; the coefficients
    assert len(blocks) == 2 * 6 + 1
    for record in two:
        assert record['gradients'].keys() == expected.keys()
        for name, gradient in record['gradients'].items():
            error = (gradient - expected[name]).abs().max()
            size = expected[name].abs().max()
            assert size > 0, name
            # rounding: 2e-6 at most was measured, in the first convolution
            assert error <= 1e-5 * size, name


def test_two_nodes_train_together(one_and_two, folder):
    """Two nodes of one process each, here on one machine."""
    common = dict(folder=folder, NNODES='2', PORT=str(free_port()))
    options = ('two.py', 1, '--no-validate', '--work-dir', 'nodes')
    nodes = [
        start('dist_train.sh', *options, NODE_RANK=str(rank), **common)
        for rank in range(2)
    ]
    for node in nodes:
        assert 'MASTER_ADDR is not set' in finish(node)
    first, second = records(folder / 'nodes')
    assert first['world_size'] == second['world_size'] == 2
    (alone,), (together, _) = one_and_two
    assert first['losses'][0] != second['losses'][0]  # each its own clips
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name
        assert torch.equal(weight, together['weights'][name]), name
    # and they were trained
    assert any(
        not torch.equal(p, alone['start'][name])
        for name, p in first['weights'].items()
    )


@pytest.fixture(scope='module')
def sharded(folder):
    """Folders of the same two epochs with DDP and with FSDP."""
    clip = dict(max_norm=0.5)  # below the norms that occur
    write_config(folder, 'ddp', epochs=2, clip=clip)
    write_config(folder, 'fsdp', base=FSDP, epochs=2, clip=clip)
    for name in ('ddp', 'fsdp'):
        finish(start('dist_train.sh', f'{name}.py', 2, folder=folder))
    return folder / 'work_dirs/ddp', folder / 'work_dirs/fsdp'


def scalars(run, key):
    """Values of ``key`` in the log of a run."""
    (log,) = run.glob('*/vis_data/scalars.json')
    lines = map(json.loads, log.read_text().splitlines())
    return [line[key] for line in lines if key in line]


def test_fsdp_shards_units_and_blocks(sharded):
    for record in records(sharded[1]):
        assert record['world_size'] == 2
        assert Counter(record['sharded']) == {
            'Recognizer3D': 1,  # the root holds what is left
            'BasicBlock3d': 8,
            'CGNL3d': 1,
        }


def test_fsdp_trains_as_ddp_does(sharded):
    """Losses, clipped gradients, whole checkpoints."""
    ddp, fsdp = sharded
    for expected, record in zip(records(ddp), records(fsdp)):
        assert record['losses'] == pytest.approx(expected['losses'], rel=1e-5)
    norms = scalars(ddp, 'grad_norm')
    assert min(norms) > 0.5
    assert scalars(fsdp, 'grad_norm') == pytest.approx(norms, rel=1e-4)
    for epoch in (1, 2):
        expected = torch.load(ddp / f'epoch_{epoch}.pth')
        checkpoint = torch.load(fsdp / f'epoch_{epoch}.pth')
        assert checkpoint['meta']['epoch'] == epoch
        assert checkpoint['meta']['iter'] == expected['meta']['iter']
        torch.testing.assert_close(
            checkpoint['state_dict'], expected['state_dict']
        )


def test_checkpoint_of_fsdp_loads_into_the_plain_model(sharded, folder):
    cfg = Config.fromfile(folder / 'ddp.py', import_custom_modules=False)
    init_default_scope('mmaction')
    model = MODELS.build(cfg.model)
    checkpoint = torch.load(sharded[1] / 'epoch_2.pth')
    model.load_state_dict(checkpoint['state_dict'], strict=True)


def test_fsdp_evaluates_its_checkpoint(sharded, folder):
    finish(
        start(
            'dist_test.sh',
            *('fsdp.py', sharded[1] / 'epoch_2.pth', 2),
            *('--work-dir', 'evaluated'),
            folder=folder,
        )
    )
    (metrics,) = (folder / 'evaluated').glob('*/*.json')
    accuracy = json.loads(metrics.read_text())['acc/top5']
    assert accuracy == scalars(sharded[1], 'acc/top5')[-1]


def test_resumed_fsdp_equals_uninterrupted_fsdp(sharded, folder):
    """As if the job had been killed after its first epoch."""
    run = folder / 'resumed'
    run.mkdir()
    shutil.copy(sharded[1] / 'epoch_1.pth', run)
    (run / 'last_checkpoint').write_text(str(run / 'epoch_1.pth'))
    options = ('fsdp.py', 2, '--resume', '--work-dir', run)
    finish(start('dist_train.sh', *options, folder=folder))
    whole = torch.load(sharded[1] / 'epoch_2.pth')
    resumed = torch.load(run / 'epoch_2.pth')
    assert resumed['meta']['iter'] == whole['meta']['iter']
    for part in (
        lambda checkpoint: checkpoint['state_dict'],
        lambda checkpoint: checkpoint['optimizer']['state'],
    ):
        torch.testing.assert_close(part(resumed), part(whole), rtol=0, atol=0)


def test_config_of_fsdp_runs_in_one_process(folder):
    write_config(folder, 'fsdp_alone', base=FSDP)
    output = finish(
        start('train.py', 'fsdp_alone.py', '--no-validate', folder=folder)
    )
    assert 'note: one process has nothing to shard' in output
    assert (folder / 'work_dirs/fsdp_alone/epoch_1.pth').is_file()
