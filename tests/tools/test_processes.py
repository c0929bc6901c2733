"""Processes that die, hang, have less to do, or are others than before."""

import json
import os
import re
import shutil
import signal
import subprocess

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

# blocks that attend from the start, whoever starts
ATTENDING = EXACT.replace('groups=', 'zero_init=False, groups=')


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


def test_dying_node_ends_the_other(folder, start_nodes):
    extra = fault('raise', 'iteration', rank=1)
    write_config(folder, 'run', batch=2, extra=extra, epochs=50)
    nodes = start_nodes(folder, [[], []], '127.0.0.1')
    outputs = [finish(node, 1, seconds=120) for node in nodes]
    # whichever node got rank 1
    died = [o for o in outputs if 'a fault of this process' in o]
    (left,) = [o for o in outputs if o not in died]
    # nothing but gloo tells the other one
    assert re.search(
        r'error: another process .*\(Connection (closed|reset) by peer\)', left
    ), left[-3000:]


@pytest.fixture
def start_nodes(start_tool):
    """One launcher for each prefix (a command that runs a command)."""

    def start(folder, prefixes, address):
        common = dict(NNODES='2', PORT=str(free_port()), MASTER_ADDR=address)
        return [
            start_tool(
                *('dist_train.sh', 'run.py', 1, '--no-validate'),
                cwd=folder,
                prefix=prefix,
                NODE_RANK=str(rank),
                **common,
            )
            for rank, prefix in enumerate(prefixes)
        ]

    return start


@pytest.fixture
def hosts():
    """Two network namespaces and a cable; as commands that run inside."""
    names = [f'cgnl{os.getpid()}{side}' for side in 'ab']
    ends = [f'veth{os.getpid()}{side}' for side in 'ab']

    def ip(*args, check=True):
        return subprocess.run(['ip', *args], check=check, capture_output=True)

    try:
        for name in names:
            if ip('netns', 'add', name, check=False).returncode:
                pytest.skip('may not make network namespaces here')
        ip('link', 'add', ends[0], 'type', 'veth', 'peer', 'name', ends[1])
        for number, (name, end) in enumerate(zip(names, ends), 1):
            ip('link', 'set', end, 'netns', name)
            inside = ('-n', name)
            ip(*inside, 'addr', 'add', f'10.9.8.{number}/24', 'dev', end)
            ip(*inside, 'link', 'set', end, 'up')
            ip(*inside, 'link', 'set', 'lo', 'up')
        yield [['ip', 'netns', 'exec', name] for name in names], ends
    finally:
        for name in names:
            ip('netns', 'del', name, check=False)


def test_two_hosts_train_together(folder, hosts, start_nodes):
    """Each with an address of its own, and no other way between them."""
    prefixes, ends = hosts
    write_config(folder, 'run', batch=4)
    for prefix, end in zip(prefixes, ends):
        prefix += ['env', f'GLOO_SOCKET_IFNAME={end}']
    nodes = start_nodes(folder, prefixes, '10.9.8.1')
    for node in nodes:
        finish(node)
    first, second = records(folder / 'work_dirs/run')
    assert first['world_size'] == second['world_size'] == 2
    assert first['losses'][0] != second['losses'][0]
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name


def accuracy(run):
    """The last one in the newest log."""
    log = sorted(run.glob('*/*.json')) + sorted(
        run.glob('*/vis_data/scalars.json')
    )
    for path in log:
        for line in path.read_text().splitlines():
            found = json.loads(line)
            if 'acc/top1' in found:
                value = found['acc/top1']
    return value


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
    ranks = []
    for tool, count in (('dist_test.sh', (3,)), ('test.py', ())):
        args = ('run.py', checkpoint, *count, '--work-dir', tool)
        said_by(tool, *args, '--dump', f'{tool}.pkl', cwd=folder)
        predictions = mmengine.load(folder / f'{tool}.pkl')
        assert len(predictions) == 7
        ranks.append(accuracy(folder / tool))
    assert ranks[0] == ranks[1]


def test_goes_on_with_another_number_of_processes(folder, said_by):
    """One process stops in mid-epoch, two of half the batch go on."""
    exact = dict(backbone=ATTENDING, epochs=2)
    write_config(folder, 'whole', batch=4, **exact)
    write_config(
        folder,
        'first',
        batch=4,
        extra=fault('SIGTERM', 'iteration', at=6),
        **exact,
    )
    write_config(folder, 'second', batch=2, **exact)
    said_by('train.py', 'whole.py', '--no-validate', cwd=folder)
    work = ('--no-validate', '--work-dir', 'work_dirs/run')
    said_by('train.py', 'first.py', *work, cwd=folder, status=143)
    said = said_by(
        'dist_train.sh', 'second.py', 2, *work, '--resume', cwd=folder
    )
    assert 'epoch 2 goes on after batch 2 of 4' in said
    (whole,), two = (
        records(folder / 'work_dirs' / name) for name in ('whole', 'run')
    )
    assert [len(record['losses']) for record in two] == [2, 2]
    for name, weight in whole['weights'].items():
        for record in two:
            torch.testing.assert_close(
                record['weights'][name], weight, rtol=1e-4, atol=1e-5
            )


def test_other_batch_size_is_told(folder, said_by):
    """Two of the full batch: half of the steps, and a warning."""
    write_config(
        folder,
        'run',
        batch=4,
        epochs=2,
        extra=fault('SIGTERM', 'iteration', at=6),
    )
    said_by('train.py', 'run.py', '--no-validate', cwd=folder, status=143)
    said = said_by(
        'dist_train.sh', 'run.py', 2, '--no-validate', '--resume', cwd=folder
    )
    assert 'a step takes 8 samples, before the checkpoint it took 4' in said
    assert 'epoch 2 goes on after batch 1 of 2' in said
    assert [len(r['losses']) for r in records(folder / 'work_dirs/run')] == [
        1,
        1,
    ]
