"""Processes that die, hang, have less to do, or are others than before."""

import json
import os
import re
import shutil
import signal

import mmengine
import pytest
import torch
from runs import (
    EXACT,
    fault,
    finish,
    free_port,
    processes_in,
    records,
    wait_for,
    write_config,
)

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints


@pytest.fixture
def clips(once, said_by):
    """The clips, written by four processes that all want to."""

    def make(folder):
        write_config(folder, 'run', batch=4)
        options = ('run.py', 4, '--no-validate')
        said = said_by('dist_train.sh', *options, cwd=folder)
        (folder / 'said').write_text(said)

    return once('clips', make)


@pytest.fixture
def folder(clips, tmp_path):
    shutil.copytree(clips / 'data', tmp_path / 'data')
    return tmp_path


def test_data_are_written_once(clips):
    assert (clips / 'said').read_text().count('Writing movingdigits') == 1


@pytest.mark.parametrize(
    'what, when, at, said',
    [
        ('raise', 'iteration', 1, 'a fault of this process'),
        ('SIGKILL', 'iteration', 1, 'SIGKILL'),
        # nothing comes from a process that hangs; the others say so
        (
            'SIGSTOP',
            'iteration',
            1,
            'error: another process of the training has ended, or does not '
            'answer (Timed out waiting 10000ms)',
        ),
        ('raise', 'validation', 3, 'a fault of this process'),
    ],
)
def test_dying_process_ends_the_others(
    folder, start_tool, pytestconfig, what, when, at, said
):
    extra = fault(what, when, at, rank=1)
    timeout = 10 if what == 'SIGSTOP' else 300
    extra += f'env_cfg = dict(dist_cfg=dict(timeout={timeout}))\n'
    write_config(folder, 'run', batch=2, extra=extra, epochs=5)
    process = start_tool('dist_train.sh', 'run.py', 3, cwd=folder)
    # they can be found: the launcher, the three that train, and their stubs
    wait_for(lambda: len(processes_in(folder)) >= 2 * 4, process)
    if what == 'SIGSTOP' and not pytestconfig.option.all:
        # The others end. torchrun kills this process, too, but 30 s later,
        # which the nightly run waits for.
        wait_for(lambda: len(processes_in(folder)) <= 2 * 2, process)
        pid = (folder / 'work_dirs/run/done1').read_text()
        os.kill(int(pid), signal.SIGKILL)
    assert said in finish(process, 1, seconds=120)
    assert not list((folder / 'work_dirs/run').glob('preempted.pth'))
    wait_for(lambda: not processes_in(folder), seconds=10)


def test_dying_node_ends_the_other(folder, start_tool):
    extra = fault('raise', 'iteration', rank=1)
    write_config(folder, 'run', batch=2, extra=extra, epochs=50)
    common = dict(NNODES='2', PORT=str(free_port()), MASTER_ADDR='127.0.0.1')
    command = ('dist_train.sh', 'run.py', 1, '--no-validate')
    nodes = [
        start_tool(*command, cwd=folder, NODE_RANK=rank, **common)
        for rank in '01'
    ]
    outputs = [finish(node, 1, seconds=120) for node in nodes]
    # whichever node got rank 1
    died = [o for o in outputs if 'a fault of this process' in o]
    (left,) = [o for o in outputs if o not in died]
    # nothing but gloo tells the other one
    assert re.search(
        r'error: another process .*\(Connection (closed|reset) by peer\)', left
    ), left[-3000:]


def test_nodes_with_folders_of_their_own_do_not_train(
    folder, said_by, start_tool
):
    """Only the first node has the checkpoint."""
    write_config(folder, 'run', batch=2, epochs=2)
    options = ('--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    said_by('train.py', 'run.py', '--work-dir', 'node0', *options, cwd=folder)
    common = dict(NNODES='2', PORT=str(free_port()), MASTER_ADDR='127.0.0.1')
    nodes = [
        start_tool(
            *('dist_train.sh', 'run.py', 1, '--no-validate', '--resume'),
            *('--work-dir', f'node{rank}'),
            cwd=folder,
            NODE_RANK=str(rank),
            **common,
        )
        for rank in range(2)
    ]
    for node in nodes:
        said = finish(node, 1, seconds=120)
        assert (
            'error: the processes do not begin at the same place: rank 0 goes '
            'on from epoch_1.pth at iteration 8, rank 1 from no file at '
            'iteration 0. Give all nodes one work folder' in said
        ), said[-3000:]
    assert not list(folder.glob('node?/epoch_2.pth'))


def test_uneven_last_batches(folder, said_by):
    """13 clips to train and 7 to test, in batches of 2 by 3 processes."""
    extra = """
data.update(num_train=13, num_test=7, data_root='data/uneven')
train_dataloader['dataset'].update(data)
for loader in (val_dataloader, test_dataloader):
    loader['dataset'] = data
    loader['batch_size'] = 2
"""
    write_config(folder, 'run', batch=2, extra=extra)
    said_by('dist_train.sh', 'run.py', 3, cwd=folder)
    run = folder / 'work_dirs/run'
    found = records(run)
    # 5 clips each: 13 and two of them once more
    assert [len(record['losses']) for record in found] == [3, 3, 3]
    for record in found[1:]:
        for name, weight in record['weights'].items():
            if 'running' not in name and 'num_batches' not in name:
                assert torch.equal(weight, found[0]['weights'][name]), name
    checkpoint = run / 'epoch_1.pth'
    accuracies = []
    for tool, count in (('dist_test.sh', (3,)), ('test.py', ())):
        args = ('run.py', checkpoint, *count, '--work-dir', tool)
        said_by(tool, *args, '--dump', f'{tool}.pkl', cwd=folder)
        predictions = mmengine.load(folder / f'{tool}.pkl')
        assert len(predictions) == 7
        (metrics,) = (folder / tool).glob('*/*.json')
        accuracies.append(json.loads(metrics.read_text())['acc/top1'])
    assert accuracies[0] == accuracies[1]


def go_on_in_two(folder, said_by, batch):
    """Stop one process of batch 4 in mid-epoch; let two go on."""
    stop = fault('SIGTERM', 'iteration', at=6)
    exact = dict(backbone=EXACT, epochs=2)
    write_config(folder, 'first', extra=stop, **exact)
    write_config(folder, 'second', batch=batch, **exact)
    options = ('--no-validate', '--work-dir', 'run')
    said_by('train.py', 'first.py', *options, cwd=folder, status=143)
    options += ('--resume',)
    said = said_by('dist_train.sh', 'second.py', 2, *options, cwd=folder)
    return said, records(folder / 'run')


def test_goes_on_with_another_number_of_processes(folder, said_by):
    """Two of half the batch compute what the one would have."""
    said, two = go_on_in_two(folder, said_by, batch=2)
    assert 'epoch 2 goes on after batch 2 of 4' in said
    assert [len(record['losses']) for record in two] == [2, 2]
    write_config(folder, 'whole', backbone=EXACT, epochs=2)
    said_by('train.py', 'whole.py', '--no-validate', cwd=folder)
    (whole,) = records(folder / 'work_dirs/whole')
    for record in two:
        torch.testing.assert_close(
            record['weights'], whole['weights'], rtol=1e-4, atol=1e-5
        )


def test_other_batch_size_is_told(folder, said_by):
    """Two of the full batch: half of the steps, and a warning."""
    said, two = go_on_in_two(folder, said_by, batch=4)
    assert 'a step takes 8 of 16 samples, before the checkpoint it' in said
    assert 'epoch 2 goes on after batch 1 of 2' in said
    assert [len(record['losses']) for record in two] == [1, 1]
