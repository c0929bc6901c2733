"""A small run of the video demo, in as many processes as one likes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

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


def write_config(
    folder,
    name,
    base=CONFIG,
    batch=4,
    epochs=1,
    clip=None,
    backbone='',
    attend=False,
    extra='',
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
        + extra
    )


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def start(tool, *args, folder, prefix=(), **env):
    """Start a tool or launcher; env holds variables such as NNODES.

    ``prefix`` is a command that runs the command behind it.
    """
    program = 'bash' if tool.endswith('.sh') else sys.executable
    names = ('LOCAL_RANK', 'PORT', 'NNODES', 'NODE_RANK', 'MASTER_ADDR')
    env = {
        **{k: v for k, v in os.environ.items() if k not in names},
        'PYTHON': sys.executable,
        'PYTHONPATH': str(HERE),
        **env,
    }
    return subprocess.Popen(
        [*prefix, program, ROOT / 'tools' / tool, *map(str, args)],
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
