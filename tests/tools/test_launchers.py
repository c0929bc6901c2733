"""dist_*.sh and slurm_*.sh: what they start, refuse, and what comes out."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from runs import scalars

TOOLS = Path(__file__).parents[2] / 'tools'
# Runs the command once for each task, as Slurm would on one node, and writes
# its arguments to the file RECORD; with DRY it runs nothing.
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" "MASTER_PORT=$MASTER_PORT" >"$RECORD"
[ -z "${DRY:-}" ] || exit 0
while [[ $1 == -* ]]; do
    [[ $1 != --ntasks=* ]] || export SLURM_NTASKS=${1#*=}
    shift
done
export SLURM_NODELIST='node[7]'
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = 'show hostname node[7]' ] && echo 127.0.0.1
"""
PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$@" >"$RECORD"
"""
PROGRAMS = dict(srun=SRUN, scontrol=SCONTROL, record=PYTHON)


@pytest.fixture
def launch(tmp_path, said_by):
    """Start a launcher where srun, scontrol and a recording Python are."""
    for name, text in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    known = dict(PATH=path, RECORD=str(tmp_path / 'recorded'))
    return lambda script, *args, cwd=tmp_path, **options: said_by(
        script, *args, cwd=cwd, **known, **options
    )


def recorded(tmp_path):
    return (tmp_path / 'recorded').read_text().splitlines()


LAUNCHERS = {
    'dist_train.sh': ['tiny.py', '2'],
    'dist_test.sh': ['tiny.py', 'epoch_1.pth', '2'],
    'slurm_train.sh': ['part', 'job', 'tiny.py'],
    'slurm_test.sh': ['part', 'job', 'tiny.py', 'epoch_1.pth'],
}


@pytest.mark.parametrize('script', LAUNCHERS)
def test_too_few_arguments_print_the_usage(launch, script):
    for args in ([], LAUNCHERS[script][:-1]):
        output = launch(script, *args, status=2)
        assert output.startswith(f'usage: bash tools/{script} ')
        assert 'PYTHON.' in output


@pytest.mark.parametrize(
    'script, args, env, named',
    [
        ('dist_train.sh', ['a.py', '--amp'], {}, "GPUS * got '--amp'"),
        ('dist_train.sh', None, dict(NNODES='two'), "NNODES * got 'two'"),
        ('dist_train.sh', None, dict(PORT='x'), "PORT * got 'x'"),
        ('dist_train.sh', None, dict(NNODES='2', NODE_RANK='2'),
         "NODE_RANK must be 0 to 1, got '2'"),
    ],
)  # fmt: skip
def test_wrong_number_is_named(launch, script, args, env, named):
    output = launch(script, *(args or LAUNCHERS[script]), status=2, **env)
    error, usage = output.split('\n', 1)
    assert error == 'error: ' + named.replace('*', 'must be a number from 1,')
    assert usage.startswith('usage:')


@pytest.mark.parametrize(
    'env, where',
    [
        ({}, ['--standalone', '--local-addr=127.0.0.1']),
        (
            dict(PORT='29871'),
            ['--nnodes=1', '--node-rank=0', '--master-addr=127.0.0.1',
             '--master-port=29871'],
        ),
        (
            dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1'),
            ['--nnodes=2', '--node-rank=1', '--master-addr=10.0.0.1',
             '--master-port=29500'],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_torchrun_gets_the_hosts_variables(
    launch, tmp_path, script, env, where
):
    option = 'a=[1, 2]'  # one word, whatever it holds
    launch(
        script,
        *LAUNCHERS[script],
        *('--cfg-options', option),
        PYTHON='record',
        **env,
    )
    positional = LAUNCHERS[script][:-1]
    tool = TOOLS / script.removeprefix('dist_').replace('.sh', '.py')
    assert recorded(tmp_path) == [
        *('-m', 'torch.distributed.run', *where, '--nproc-per-node=2'),
        *(str(tool), '--launcher', 'pytorch', *positional),
        *('--cfg-options', option),
    ]


def test_taken_port_is_named_where_one_is_asked_for(launch, tmp_path):
    command = ('dist_train.sh', 'a.py', 2)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        output = launch(*command, PORT=str(port), status=2)
        assert f'port {port} is taken' in output
        assert f'PORT={port + 1}' in output
        # that of another machine
        node = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1')
        launch(*command, PORT=str(port), PYTHON='record', **node)


@pytest.mark.parametrize(
    'options, passed',
    [
        (['runs/a', '--seed', '1'], ['--work-dir', 'runs/a', '--seed', '1']),
        (['--seed', '1'], ['--seed', '1']),  # mmaction2's form
    ],
)
def test_srun_gets_the_hosts_variables(
    launch, tmp_path, warm, options, passed
):
    env = dict(
        DRY='1', GPUS='16', CPUS_PER_TASK='3', PORT='29871',
        SRUN_ARGS='--exclusive  --time=1:00:00',
    )  # fmt: skip
    launch('slurm_train.sh', *LAUNCHERS['slurm_train.sh'], *options, **env)
    assert recorded(tmp_path) == [
        *('--partition=part', '--job-name=job', '--gres=gpu:8'),
        *('--ntasks=16', '--ntasks-per-node=8', '--cpus-per-task=3'),
        *('--kill-on-bad-exit=1', '--exclusive', '--time=1:00:00'),
        *(str(warm), '-u', str(TOOLS / 'train.py')),
        *('--launcher', 'slurm', 'tiny.py', *passed, 'MASTER_PORT=29871'),
    ]


@pytest.mark.starts('test.py, as one task of Slurm')
def test_two_slurm_tasks_train_and_one_evaluates(launch, project, tmp_path):
    """MMEngine's slurm launcher for real; dist_test.sh is run with FSDP."""
    output = launch(
        'slurm_train.sh',
        *('part', 'job', 'tiny.py', tmp_path / 'run'),
        *('--cfg-options', 'train_cfg.max_epochs=1'),
        'train_dataloader.batch_size=2',
        cwd=project,
        GPUS='2',
        SRUN_ARGS='--gres=none',
    )
    # 24 images, 2 a task, 2 tasks
    assert 'Epoch(train) [1][6/6]' in output
    launched = recorded(tmp_path)
    assert launched.index('--gres=gpu:2') < launched.index('--gres=none')
    launch(
        'slurm_test.sh',
        *('part', 'job', 'tiny.py', tmp_path / 'run/epoch_1.pth'),
        *('--work-dir', tmp_path / 'evaluated'),
        cwd=project,
        python=sys.executable,
        GPUS='1',
    )
    (metrics,) = (tmp_path / 'evaluated').glob('*/*.json')
    accuracy = json.loads(metrics.read_text())['accuracy/top1']
    assert accuracy == scalars(tmp_path / 'run', 'accuracy/top1')[-1]
