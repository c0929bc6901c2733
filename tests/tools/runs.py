"""What the tests of whole runs share, and a small run of the video demo."""

import json
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/i3d_r18_cgnl_movingdigits.py'
FSDP = ROOT / 'configs/i3d_r18_cgnl_movingdigits_fsdp.py'

# the demo, small, with nothing random after the initialisation
SMALL = """
_base_ = {base!r}
custom_imports = dict(imports=['cgnl_mm', 'recording_hook'])
custom_hooks = [dict(type='RecordingHook')]
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
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
"""
# BatchNorm would take its statistics per process. Blocks that attend from the
# start, of several orders: theta, phi and g all have gradients that are more
# than rounding.
EXACT = """, norm_eval=True, zero_init_residual=False, plugins=[
        dict(
            cfg=dict(type='CGNL3d', groups=8, norm_weight=1.0),
            after_blocks=((), (), (-2, ), ())),
        dict(
            cfg=dict(
                type='CGNL3d', groups=4, mode='learnable', norm_weight=1.0),
            after_blocks=((), (0, ), (), ()))]"""

# the detection demo, small
SCENES = """
model['neck'] = dict(in_channels=[8, 16, 32, 64], out_channels=16)
model['rpn_head'] = dict(in_channels=16, feat_channels=16)
model['roi_head'] = dict(
    bbox_roi_extractor=dict(out_channels=16),
    bbox_head=dict(in_channels=16, fc_out_channels=64),
    mask_roi_extractor=dict(out_channels=16),
    mask_head=dict(in_channels=16, conv_out_channels=16))
pipelines = [_base_.train_pipeline, _base_.test_pipeline]
pipelines[0][2].scale = pipelines[1][1].scale = (64, 64)
train_dataloader['dataset'] = dict(pipeline=pipelines[0], **data)
val_dataloader['dataset'] = dict(pipeline=pipelines[1], **data)
"""


def write_config(folder, name, base=CONFIG, extra='', **given):
    options = {**dict(batch=4, epochs=1, backbone=''), **given}
    text = SMALL.format(base=str(base), **options)
    (folder / f'{name}.py').write_text(text + extra)


class Net(BaseModel):
    """Has dropout, and notes the numbers that it is trained on."""

    def __init__(self):
        super().__init__()
        layers = nn.Linear(1, 8), nn.Dropout(), nn.Linear(8, 1)
        self.layer = nn.Sequential(*layers)
        self.drawn = []

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return [inputs]
        self.drawn += inputs.flatten().tolist()
        return dict(loss=self.layer(inputs).square().mean())


class Count(BaseMetric):
    """The number of batches."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(count=len(results))


def stack(samples):
    return dict(inputs=torch.stack(samples))


def train_here(
    model, folder, data, hooks=(), epochs=2, resume=None, evaluate=(), **given
):
    """Train a network on a list of tensors in this process, two a batch.

    Args:
        resume: A checkpoint to go on from, or True.
        evaluate: Metrics of an evaluation after each epoch.
        **given: Arguments of Runner that replace the usual ones.
    """
    loader = dict(
        dataset=data,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        collate_fn=stack,
    )
    options = dict(
        work_dir=str(folder),
        # a name has one logger and one message hub
        experiment_name=f'{folder.name}{time.monotonic_ns()}',
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=list(hooks),
        resume=resume is not None,
        load_from=None if resume in (None, True) else str(resume),
    )
    if evaluate:
        options.update(
            val_dataloader=loader,
            val_evaluator=Evaluator(list(evaluate)),
            val_cfg=dict(),
        )
    runner = Runner(model, **{**options, **given})
    runner.train()
    return runner


def fault(what, when, at=1, rank=0):
    """Lines of a config that let a FaultyHook act."""
    options = f'what={what!r}, when={when!r}, at={at}, rank={rank}'
    return (
        "custom_imports['imports'].append('faulty_hook')\n"
        f"custom_hooks.insert(0, dict(type='FaultyHook', {options}))\n"
    )


def in_two(python, script, folder):
    """Run a script as the ranks 0 and 1; return each's output and errors.

    The script gets its rank, and a file by which the two may meet.
    """
    processes = [
        subprocess.Popen(
            [python, '-c', script, rank, folder / 'store'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in '01'
    ]
    return [process.communicate(timeout=120) for process in processes]


def free_port():
    """Choose a free port below those that the system itself hands out."""
    while True:
        port = random.SystemRandom().randrange(10000, 30000)
        with socket.socket() as sock:
            if sock.connect_ex(('127.0.0.1', port)):
                return port


def outputs(process, status=0, seconds=300):
    """Wait for a tool that has to end with a status; return its streams."""
    try:
        process.wait(timeout=seconds)
    finally:
        process.kill()
    for file in process.files:
        file.seek(0)
    said = [file.read() for file in process.files]
    assert process.returncode == status, ''.join(said)[-5000:]
    return said


def finish(process, status=0, seconds=300):
    return outputs(process, status, seconds)[0]


def wait_for(happened, process=None, seconds=120):
    """Return what is true at last, while the process, if any, lives."""
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end
        assert process is None or process.poll() is None, finish(process)
        time.sleep(0.05)
    return found


def processes_in(folder):
    """List the launchers, ranks and workers whose folder this is."""
    found = []
    for link in Path('/proc').glob('[0-9]*/cwd'):
        try:
            if Path(os.readlink(link)) == folder.resolve():
                found.append(int(link.parent.name))
        except OSError:
            pass  # it has ended
    return found


def scalars(run, key):
    """Values of a key in the logs of a run, in order of writing."""
    texts = [
        x.read_text() for x in sorted(run.glob('*/vis_data/scalars.json'))
    ]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [line[key] for line in lines if key in line]


def records(run):
    """What the processes of a run wrote down, by rank."""
    return [torch.load(path) for path in sorted(run.glob('rank?.pt'))]
