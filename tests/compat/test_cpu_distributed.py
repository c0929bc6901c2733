"""Two processes train and evaluate on a machine without a GPU."""

import importlib.util
import json
from pathlib import Path

import pytest

RUN = Path(__file__).with_name('host_run.py')


def test_two_processes(python, needs, tmp_path):
    """The config says nccl and SyncBN; nothing in it knows of the CPU."""
    needs('cpu_distributed')
    host = 'mmpretrain'
    if importlib.util.find_spec(host) is None:
        pytest.skip(f'{host} is not installed')
    # one process writes the data
    python(RUN, host, tmp_path, '--dump', tmp_path / 'config.py')

    def launch(processes, **kwargs):
        return python(
            '-m', 'torch.distributed.run', '--standalone',
            f'--nproc_per_node={processes}', RUN, host, tmp_path,
            '--launcher=pytorch', **kwargs,
        )  # fmt: skip

    assert 'set_device' in launch(1, off='-cpu_distributed', status=1)
    on = launch(2)
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # 8 images, 2 a batch, 2 processes
    assert sum('loss' in line for line in lines) == 2
    assert 'Epoch(val) [1][2/2]' in on
    assert 'each process normalises over its own samples' in on
