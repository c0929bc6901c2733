"""FSDP's optimizer state, of one process; tests/tools has two of them."""

import pytest

from cgnl_mm.training.fsdp import obstacle_on_cpu

SCRIPT = """
import os

import torch
from torch import nn

import cgnl_mm
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device

os.environ['LOCAL_RANK'] = '0'
torch.distributed.init_process_group(
    'gloo' if get_device() == 'cpu' else 'nccl',
    store=torch.distributed.HashStore(), rank=0, world_size=1)
strategy = FSDPStrategy(work_dir='run', state_dict_cfg='full')
model, wrapper = strategy.prepare(
    nn.Linear(3, 2),
    optim_wrapper=dict(
        optimizer=dict(type='Adam', lr=0.1), clip_grad=dict(max_norm=1e-3)))
x = torch.ones(4, 3, device=get_device())
wrapper.update_params(model(x).sum())
print('clipped by', wrapper.clip_func.__module__)
before = wrapper.optimizer.state_dict()['state']
saved = strategy.optim_state_dict()
wrapper.optimizer.state.clear()
strategy.load_optim_state_dict(saved)
torch.testing.assert_close(wrapper.optimizer.state_dict()['state'], before)
print('restored')
"""


@pytest.mark.parametrize(
    'off, status, expected',
    [
        (None, 0, 'restored'),
        ('-flexible_runner', 1, "unhashable type: 'dict'"),
    ],
)
def test_optimizer_state_returns(
    python, needs, tmp_path, off, status, expected
):
    needs('flexible_runner')
    if obstacle_on_cpu():
        pytest.skip(f'FSDP on a CPU: {obstacle_on_cpu()}')
    said = python('-c', SCRIPT, off=off, cwd=tmp_path, status=status)
    assert expected in said
    # a norm of the shard alone where the repair is off
    clip = 'cgnl_mm' if status == 0 else 'torch.nn.utils.clip_grad'
    assert f'clipped by {clip}' in said
