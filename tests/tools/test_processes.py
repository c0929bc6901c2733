"""Processes that die, hang, have less to do, or are others than before."""

import json
import os
import re
import shutil
import subprocess
import time

import mmengine
import pytest
import torch
from distributed_runs import (
    EXACT,
    finish,
    free_port,
    records,
    start,
    write_config,
)

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

FAULT = """
custom_imports['imports'].append('faulty_hook')
custom_hooks.insert(0, dict(type='FaultyHook', {options}))
"""
# blocks that attend from the start, whoever starts
ATTENDING = EXACT.replace('groups=', 'zero_init=False, groups=')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The clips, written by four processes that all want to."""
    folder = tmp_path_factory.mktemp('clips')
    write_config(folder, 'run', batch=4)
    output = finish(
        start('dist_train.sh', 'run.py', 4, '--no-validate', folder=folder)
    )
    return folder / 'data', output


@pytest.fixture
def folder(data, tmp_path):
    shutil.copytree(data[0], tmp_path / 'data')
    return tmp_path


def test_data_are_written_once(data):
    assert data[1].count('Writing movingdigits') == 1


@pytest.mark.parametrize(
    'options, said',
    [
        ("what='raise', when='iteration'", 'a fault of this process'),
        ("what='SIGKILL', when='iteration'", 'SIGKILL'),
        # nothing comes from a process that hangs; the others say so
        (
            "what='SIGSTOP', when='iteration'",
            'error: another process of the training has ended, or does not '
            'answer (Timed out waiting 10000ms)',
        ),
        ("what='raise', when='validation', at=3", 'a fault of this process'),
    ],
)
def test_dying_process_ends_the_others(folder, options, said):
    extra = FAULT.format(options=f'rank=1, {options}')
    extra += 'env_cfg = dict(dist_cfg=dict(timeout=10))\n'
    write_config(folder, 'run', batch=2, extra=extra, epochs=5)
    config = folder / 'run.py'
    process = start('dist_train.sh', config, 3, folder=folder)
    # they can be found: the launcher and the three that train
    wait_for(lambda: len(processes_of(config)) >= 4)
    output = process.communicate(timeout=120)[0]
    assert process.returncode not in (0, None)
    assert said in output, output[-5000:]
    assert not list((folder / 'work_dirs/run').glob('preempted.pth'))
    assert processes_of(config) == []


def processes_of(config):
    """Those with the path of a config on their command line."""
    found = subprocess.run(
        ['pgrep', '-f', re.escape(str(config))],
        capture_output=True,
        text=True,
    )
    return found.stdout.split()


def wait_for(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_dying_node_ends_the_other(folder):
    extra = FAULT.format(options="rank=1, what='raise', when='iteration'")
    write_config(folder, 'run', batch=2, extra=extra, epochs=50)
    nodes = start_nodes(folder, [[], []], '127.0.0.1')
    outputs = [node.communicate(timeout=120)[0] for node in nodes]
    for node, output in zip(nodes, outputs):
        assert node.returncode not in (0, None), output[-3000:]
    # whichever node got rank 1
    died = [o for o in outputs if 'a fault of this process' in o]
    (left,) = [o for o in outputs if o not in died]
    # nothing but gloo tells the other one
    assert re.search(
        r'error: another process .*\(Connection (closed|reset) by peer\)', left
    ), left[-3000:]


def start_nodes(folder, prefixes, address):
    """One launcher for each prefix (a command that runs a command)."""
    nodes = []
    port = str(free_port())
    for rank, prefix in enumerate(prefixes):
        env = dict(NNODES='2', NODE_RANK=str(rank), PORT=port)
        env['MASTER_ADDR'] = address
        options = ('run.py', 1, '--no-validate')
        nodes.append(
            start('dist_train.sh', *options, folder=folder, prefix=prefix,
                  **env)
        )  # fmt: skip
    return nodes


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


def test_two_hosts_train_together(folder, hosts):
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


def test_uneven_last_batches(folder):
    """13 clips to train and 7 to test, in batches of 2 by 3 processes."""
    extra = """
data.update(num_train=13, num_test=7, data_root='data/uneven')
train_dataloader['dataset'].update(data)
for loader in (val_dataloader, test_dataloader):
    loader['dataset'] = data
    loader['batch_size'] = 2
"""
    write_config(folder, 'run', batch=2, extra=extra)
    finish(start('dist_train.sh', 'run.py', 3, folder=folder))
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
        finish(start(tool, *args, '--dump', f'{tool}.pkl', folder=folder))
        predictions = mmengine.load(folder / f'{tool}.pkl')
        assert len(predictions) == 7
        ranks.append(accuracy(folder / tool))
    assert ranks[0] == ranks[1]


def test_goes_on_with_another_number_of_processes(folder):
    """One process stops in mid-epoch, two of half the batch go on."""
    exact = dict(backbone=ATTENDING, epochs=2)
    write_config(folder, 'whole', batch=4, **exact)
    write_config(
        folder,
        'first',
        batch=4,
        extra=FAULT.format(options="what='SIGTERM', when='iteration', at=6"),
        **exact,
    )
    write_config(folder, 'second', batch=2, **exact)
    finish(start('train.py', 'whole.py', '--no-validate', folder=folder))
    work = ('--no-validate', '--work-dir', 'work_dirs/run')
    finish(start('train.py', 'first.py', *work, folder=folder), status=143)
    said = finish(
        start('dist_train.sh', 'second.py', 2, *work, '--resume',
              folder=folder)
    )  # fmt: skip
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


def test_other_batch_size_is_told(folder):
    """Two of the full batch: half of the steps, and a warning."""
    write_config(
        folder,
        'run',
        batch=4,
        epochs=2,
        extra=FAULT.format(options="what='SIGTERM', when='iteration', at=6"),
    )
    finish(
        start('train.py', 'run.py', '--no-validate', folder=folder),
        status=143,
    )
    said = finish(
        start('dist_train.sh', 'run.py', 2, '--no-validate', '--resume',
              folder=folder)
    )  # fmt: skip
    assert 'a step takes 8 samples, before the checkpoint it took 4' in said
    assert 'epoch 2 goes on after batch 1 of 2' in said
    assert [len(r['losses']) for r in records(folder / 'work_dirs/run')] == [
        1,
        1,
    ]
