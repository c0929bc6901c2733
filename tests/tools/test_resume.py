"""Killed, preempted and starved runs, as real processes.

What a run computes in the end does not tell that it was interrupted.
"""

import os
import re
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from faulty_hook import CUT
from runs import fault, finish, processes_in, wait_for

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.training.preemption import ONCE

# after the lines of `tiny.py`: what a resumed run could get wrong, that is
# augmentation in workers that live on, dropout, EMA, a schedule by iteration
LINES = """
custom_imports['imports'].append('faulty_hook')
model['backbone'].update(
    plugins=[dict(
        cfg=dict(type='CGNL2d', groups=2), after_blocks=((), (0, ), (), ()))])
model['head'].update(
    type='StackedLinearClsHead', mid_channels=[16], dropout_rate=0.5)
del model['head']['topk']
train_dataloader.update(
    batch_size=4, num_workers={workers}, persistent_workers={persistent})
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')]
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = dict(
    type='OneCycleLR', eta_max=0.01, total_steps=4, by_epoch=True,
    convert_to_iter_based=True)
train_cfg.update(max_epochs=4, val_interval=2)
default_hooks.update(
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'))
default_hooks['checkpoint'].update(
    type='AtomicCheckpointHook', max_keep_ckpts=1, save_best='auto')
custom_hooks = [
    dict(type='CurveHook'),
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1)]
"""
# 24 of them, of 12 an epoch, saved and evaluated off the end of an epoch;
# between two epochs this loop sleeps
BY_ITERATION = """
train_cfg = dict(by_epoch=False, max_iters=24, val_interval=8)
param_scheduler = dict(
    type='OneCycleLR', eta_max=0.01, total_steps=24, by_epoch=False)
default_hooks['checkpoint'].update(by_epoch=False, interval=4)
log_processor = dict(by_epoch=False)
train_dataloader.update(batch_size=2)
"""
ENDLESS = (
    BY_ITERATION
    + """
train_dataloader['sampler']['type'] = 'InfiniteSampler'
"""
)
# an overflow in each of the first iterations, then a scale that grows
FLOAT16 = """
custom_imports['imports'].append('cpu_amp')
optim_wrapper.update(
    type='CpuAmpOptimWrapper', dtype='float16',
    loss_scale=dict(init_scale=2.0**20, growth_interval=2))
"""
LOOPS = {
    'epochs': ('', 1, True),
    'epochs, new workers': ('', 1, False),
    'epochs, no worker': ('', 0, False),
    'epochs, float16': (FLOAT16, 0, False),
    'iterations': (BY_ITERATION, 2, True),
    'iterations, no worker': (BY_ITERATION, 0, False),
    'endless': (ENDLESS, 1, False),
}


def write_config(project, folder, loop, name='run', extra=''):
    lines, workers, persistent = LOOPS[loop]
    if lines == FLOAT16 and not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch < 2.3 has no gradient scaler for a CPU')
    text = LINES.format(workers=workers, persistent=persistent)
    shutil.copytree(project / 'data', folder / 'data', dirs_exist_ok=True)
    base = (project / 'tiny.py').read_text()
    (folder / f'{name}.py').write_text(base + text + lines + extra)


@pytest.fixture
def train(said_by):
    """Run train.py in a folder; return what it says."""
    return lambda folder, *args, **options: said_by(
        'train.py', *args, cwd=folder, **options
    )


def curve(work_dir, rank=0):
    """{iteration: 'batch loss'}; one that was run twice has to agree."""
    found = {}
    for line in (work_dir / f'curve{rank}.txt').read_text().splitlines():
        iteration, rest = line.split(maxsplit=1)
        assert found.setdefault(iteration, rest) == rest, iteration
    return found


def last(work_dir):
    path = (work_dir / 'last_checkpoint').read_text()
    return torch.load(work_dir / Path(path).name)


def assert_same_run(one, other):
    """Curve, weights, their average, optimizer, schedule, best and logs."""
    assert curve(one) == curve(other)
    first, second = last(one), last(other)
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(
            first[key], second[key], rtol=0, atol=0, msg=key
        )
    assert first['param_schedulers'] == second['param_schedulers']
    for key in ('epoch', 'iter', 'seed'):
        assert first['meta'][key] == second['meta'][key]
    hubs = [run['message_hub'] for run in (first, second)]
    for key in ('train/loss', 'train/lr', 'val/accuracy/top1'):
        one_log, other_log = (hub['log_scalars'][key].data[0] for hub in hubs)
        assert one_log.tolist() == other_log.tolist(), key
    best, other_best = (hub['runtime_info']['best_score'] for hub in hubs)
    assert best == other_best
    names, other_names = (
        {path.name for path in run.glob('*.pth')} for run in (one, other)
    )
    assert names == other_names


@pytest.fixture
def whole(once, project, train):
    """The folder of an uninterrupted run with one of the loops."""

    def get(loop, name='whole', extra=''):
        def make(folder):
            write_config(project, folder, loop, extra=extra)
            train(folder, 'run.py')

        return once(f'{name}, {loop}', make)

    return get


# what a FaultyHook does to a run, when, and in which iteration or operation
EPOCHS = (
    'SIGKILL iteration 15',
    'SIGTERM iteration 15',
    'SIGKILL validation 12',
    'SIGTERM validation 12',
)
# right before a checkpoint, whose evaluation is over, gets its name
SAVING = 'SIGKILL operation 11'
# the loops by iteration save and evaluate off the end of an epoch, too
ITERATIONS = (*EPOCHS[:2], 'SIGKILL iteration 21', 'SIGTERM validation 16')
# For each loop, the first tuple has all of its cases; the cases that are in
# the second tuple, too, run in the fast tier.
CASES = {
    'epochs': ((*EPOCHS, SAVING), EPOCHS),
    'epochs, new workers': (EPOCHS, EPOCHS[:1]),
    'epochs, no worker': (EPOCHS, EPOCHS[3:]),
    'epochs, float16': (EPOCHS, EPOCHS[1:2]),
    'iterations': (ITERATIONS, ITERATIONS[3:]),
    'iterations, no worker': (ITERATIONS, ITERATIONS[2:3]),
    'endless': (ITERATIONS, ITERATIONS[3:]),
}


def cases():
    for loop, (moments, chosen) in CASES.items():
        for moment in moments:
            marks = [] if moment in chosen else pytest.mark.nightly
            yield pytest.param(loop, moment, marks=marks)


@pytest.mark.parametrize('loop, moment', cases())
def test_interrupted_run_ends_as_the_whole_one(
    whole, project, train, tmp_path, loop, moment
):
    what, when, at = moment.split()
    write_config(project, tmp_path, loop, extra=fault(what, when, at))
    status = -9 if what == 'SIGKILL' else 143
    said = train(tmp_path, 'run.py', status=status)
    run = tmp_path / 'work_dirs/run'
    if what == 'SIGTERM':
        assert 'SIGTERM after iteration' in said
        assert (run / 'last_checkpoint').read_text().endswith('preempted.pth')
        assert 'Traceback' not in said
    said = train(tmp_path, 'run.py', '--resume')
    assert 'resumed epoch' in said
    if when == 'validation':
        assert 'the evaluation that was cut off comes first' in said
    assert not (run / 'preempted.pth').exists()  # there are later ones
    assert_same_run(whole(loop) / 'work_dirs/run', run)


def test_killed_at_each_operation_on_checkpoints(
    project, train, tmp_path, pytestconfig
):
    """Kill a save before each of its operations, or in the midst of a file.

    The run that goes on ends as if nothing had happened.
    """

    def write(folder, what, at):
        write_config(
            project,
            folder,
            'epochs, no worker',
            extra='train_cfg.update(max_epochs=2, val_interval=1)\n'
            "custom_hooks.append(dict(type='ProgressHook'))\n"
            "default_hooks['checkpoint'].update("
            "save_best='progress', rule='greater')\n"
            + fault(what, 'operation', at),
        )
        return folder

    whole = write(tmp_path / 'whole', 'SIGKILL', 0)
    said = train(whole, 'run.py')
    operations = re.findall(r'^operation (\d+): (\S+ \S+)', said, re.M)
    # an epoch's and the best one that are outdated
    names = [name for _, name in operations]
    assert {name for name in names if 'remove' in name} == {
        'os.remove epoch_1.pth',
        'os.remove best_progress_epoch_1.pth',
    }
    # the first checkpoint has its name before last_checkpoint names it
    renamed = names.index('os.rename epoch_1.pth.part') + 1
    noted = names.index('open last_checkpoint') + 1
    if not pytestconfig.option.all:
        # the first save, before which there is nothing to resume from, and all
        # operations of the last epoch
        second = names.index('open epoch_2.pth.part')
        operations = operations[:noted] + operations[second:]
    for at, name in operations:
        half = name.startswith('open') and name.endswith(('.pth', '.part'))
        what = 'SIGXFSZ' if half else 'SIGKILL'
        folder = write(tmp_path / at, what, at)
        train(folder, 'run.py', status=-getattr(signal, what))
        run = folder / 'work_dirs/run'
        if half:
            assert CUT in [path.stat().st_size for path in run.glob('*.p*')]
        said = train(folder, 'run.py', '--resume')
        try:
            assert ('resumed epoch' in said) == (int(at) > renamed)
            assert_same_run(whole / 'work_dirs/run', run)
        except AssertionError as error:
            raise AssertionError(f'killed before {at}, {name}') from error


@pytest.fixture
def saved(whole, tmp_path):
    """A run with a checkpoint of each epoch."""
    extra = "default_hooks['checkpoint'].update(max_keep_ckpts=-1)\n"
    folder = whole('epochs, no worker', 'saved', extra)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_damaged_checkpoint_is_passed_over(saved, train):
    """tests/training/test_checkpoint.py has the other kinds of damage."""
    run = saved / 'work_dirs/run'
    whole, path = last(run), run / 'epoch_4.pth'
    # a bit in the middle, as by a failing disk
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    # asked for by name, it is an error
    said = train(saved, 'run.py', '--resume', path, status=2)
    assert re.search(r'error: --resume: .*damaged at ', said)
    assert 'Traceback' not in said
    said = train(saved, 'run.py', '--resume')
    assert re.search(r'passed over \S*epoch_4.pth: damaged at ', said), said
    assert 'resumed epoch: 3, iter: 18' in said
    torch.testing.assert_close(
        last(run)['state_dict'], whole['state_dict'], rtol=0, atol=0
    )


def test_full_disk_leaves_the_previous_checkpoint(project, train, tmp_path):
    write_config(
        project,
        tmp_path,
        'epochs, no worker',
        extra='custom_hooks.append('
        "dict(type='FullDiskHook', size=200_000, epoch=3))\n",
    )
    said = train(tmp_path, 'run.py', status=2)
    run = tmp_path / 'work_dirs/run'
    assert re.search(
        r'^error: .*epoch_3.pth could not be written: File too large. '
        r'Earlier files are as they were.*--resume',
        said,
        re.M,
    )
    assert [path.name for path in run.glob('epoch*')] == ['epoch_2.pth']
    assert last(run)['meta']['epoch'] == 2
    write_config(project, tmp_path, 'epochs, no worker')
    assert 'resumed epoch: 2' in train(tmp_path, 'run.py', '--resume')


GROUP = """
train_dataloader.update(num_workers=2)
val_dataloader.update(num_workers=1, persistent_workers={})
"""
MOMENTS = {
    'training': ('epochs', 'iteration', 2),
    'new workers': ('epochs, new workers', 'iteration', 8),
    'iterations': ('iterations', 'iteration', 2),
    'validation': ('epochs', 'validation', 12),
}


@pytest.fixture
def waiting(project, start_tool, tmp_path):
    """Start a run that waits at a moment; return it and its process' id.

    The process leads a group of its own, in which its workers are.
    """

    def start(moment='training'):
        loop, when, at = MOMENTS[moment]
        extra = GROUP.format(LOOPS[loop][2]) + fault('wait', when, at)
        write_config(project, tmp_path, loop, extra=extra)
        process = start_tool('train.py', 'run.py', cwd=tmp_path)
        done = tmp_path / 'work_dirs/run/done0'
        pid = int(
            wait_for(lambda: done.exists() and done.read_text(), process)
        )
        assert len(processes_in(tmp_path)) >= 1 + 2
        return process, pid

    return start


@pytest.mark.parametrize('moment', MOMENTS)
def test_sigterm_to_the_process_group(waiting, train, tmp_path, moment):
    """Workers get it, too; and a launcher among them passes it on."""
    process, pid = waiting(moment)
    for _ in range(3):
        os.killpg(pid, signal.SIGTERM)
        time.sleep(0.1)
    (tmp_path / 'work_dirs/run/told').touch()
    said = finish(process, 143)
    assert 'preempted.pth is written' in said
    assert 'Traceback' not in said
    wait_for(lambda: not processes_in(tmp_path))
    assert 'resumed epoch' in train(tmp_path, 'run.py', '--resume')


def test_second_training_stops_until_the_first_has_ended(
    waiting, train, tmp_path
):
    """A job that was queued again; the workers end with their process."""
    process, pid = waiting()
    options = 'train_cfg.max_epochs=1', 'default_hooks.exact_resume=None'
    again = ('run.py', '--resume', '--cfg-options', *options)
    said = train(tmp_path, *again, status=2)
    holder = f'process {pid} on {socket.gethostname()} trains there'
    assert re.search(f'^error: .*/run is in use: {holder}', said, re.M), said
    assert 'Traceback' not in said and 'Epoch(train)' not in said
    os.kill(pid, signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    said = train(tmp_path, *again)
    assert 'Epoch(train) [1][6/6]' in said
    # as the options want it
    assert 'PreemptionHook' in said and 'ExactResumeHook' not in said
    wait_for(lambda: not processes_in(tmp_path))


def test_second_sigterm_ends_it_at_once(waiting, tmp_path):
    """Signals that come within ``ONCE`` seconds count as the first one."""
    process, _ = waiting()
    begin = time.monotonic()
    while process.poll() is None:
        assert time.monotonic() < begin + 60
        process.terminate()
        time.sleep(0.5)
    assert time.monotonic() > begin + ONCE
    finish(process, -signal.SIGTERM)
    wait_for(lambda: not processes_in(tmp_path))


GROUP_OF_STARTS = pytest.mark.starts('a process group of interpreters')


@pytest.mark.parametrize(
    'to', ['launcher', pytest.param('group', marks=GROUP_OF_STARTS)]
)
def test_sigterm_to_a_launcher_saves_on_all_ranks(
    project, start_tool, tmp_path, to, warm
):
    """As torchrun does it, and as Slurm."""
    extra = (
        'train_cfg.update(max_epochs=1000)\n'
        'val_cfg = val_dataloader = val_evaluator = None\n'
        "default_hooks['checkpoint'].update(save_best=None)\n"
        'param_scheduler.update(total_steps=1000)\n'
    )
    write_config(project, tmp_path, 'epochs', extra=extra)
    process = start_tool(
        *('dist_train.sh', 'run.py', 2),
        cwd=tmp_path,
        python=sys.executable if to == 'group' else warm,
        start_new_session=True,
    )
    run = tmp_path / 'work_dirs/run'
    wait_for((run / 'last_checkpoint').exists, process)
    if to == 'group':
        os.killpg(process.pid, signal.SIGTERM)
    else:  # the agent, a child of the shell or the shell itself
        process.terminate()
    said = finish(process, 1)
    assert 'preempted.pth is written' in said, said[-3000:]
    assert 'DataLoader worker' not in said
    checkpoint = last(run)
    assert checkpoint['exact_resume']['samples_per_step'] == 8
    assert checkpoint['meta']['iter'] > 3


def test_nan_leaves_the_last_good_checkpoint(project, said_by, tmp_path):
    """Two processes, which agree not to save; patience is longer."""
    extra = fault('nan', 'iteration', at=5, rank=1) + (
        "default_hooks['numerics'] = dict(type='NumericsHook', patience=20)\n"
    )
    write_config(project, tmp_path, 'epochs, no worker', extra=extra)
    said = said_by('dist_train.sh', 'run.py', 2, cwd=tmp_path, status=1)
    assert 'began in iteration 5, rank 1: backbone.layer2' in said
    assert said.count('no checkpoint is saved while') == 1
    run = tmp_path / 'work_dirs/run'
    assert [path.name for path in run.glob('epoch_*')] == ['epoch_1.pth']
    assert last(run)['meta']['iter'] == 3
