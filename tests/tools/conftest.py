"""Make a small real project, and run the tools on it."""

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image
from runs import finish, outputs

from cgnl_mm import cli

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CONFIG = """
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8,
        out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64, topk=(1, )))
data_preprocessor = dict(num_classes=2, mean=[127] * 3, std=[60] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type='CustomDataset', data_root='data/train', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type='CustomDataset', data_root='data/val', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader, test_evaluator = val_dataloader, val_evaluator
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = dict(type='MultiStepLR', milestones=[1])
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
randomness = dict(seed=1)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=2),
    checkpoint=dict(type='CheckpointHook', interval=1))
"""


def write_images(folder, per_class, seed):
    """Write noise that is brighter on the left (class a) or right (class b).

    Half of the labels are wrong, so that no network reaches 0 or 100 %.
    """
    rng = np.random.default_rng(seed)
    for side, name in enumerate('ab'):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            image = rng.integers(0, 156, (32, 32, 3), dtype=np.uint8)
            bright = side if index % 2 else rng.integers(2)
            image[:, bright * 16 : bright * 16 + 16] += 100
            Image.fromarray(image).save(folder / name / f'{index}.png')


# Launchers and tools read these variables; a test sets what it wants.
READ = (
    *('LOCAL_RANK', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'GPUS'),
    *('GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS'),
)


@pytest.fixture(scope='session')
def project(tmp_path_factory):
    """Make a folder with ``tiny.py`` and its data, outside the repository."""
    folder = tmp_path_factory.mktemp('project')
    write_images(folder / 'data/train', per_class=12, seed=0)
    write_images(folder / 'data/val', per_class=12, seed=1)
    (folder / 'tiny.py').write_text(CONFIG)
    return folder


@pytest.fixture(scope='session')
def start_tool(warm):
    """Start a tool or a launcher, the processes of which are warm.

    ``start_tool('dist_train.sh', 'run.py', 2, cwd=..., NNODES='2')`` returns
    the started process. ``python`` is another interpreter, ``prefix`` a
    command that runs the command behind it, ``separate`` keeps errors apart.
    """

    def start(
        tool, *args, cwd, python=warm, prefix=(), separate=False,
        start_new_session=False, **env,
    ):  # fmt: skip
        program = 'bash' if tool.endswith('.sh') else python
        command = [*prefix, program, ROOT / 'tools' / tool, *args]
        known = {k: v for k, v in os.environ.items() if k not in READ}
        # The tests' hooks lie here. A tool finds the repository by itself.
        known.update(PYTHON=str(python), PYTHONPATH=str(HERE))
        # Workers may hold a pipe longer than their process lives.
        files = [tempfile.TemporaryFile('w+') for _ in range(1 + separate)]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**known, **env},
            stdout=files[0],
            stderr=files[-1],
            start_new_session=start_new_session,
        )
        process.files = files
        return process

    return start


@pytest.fixture(scope='session')
def said_by(start_tool):
    """Run a tool to its end; return its output and errors as they came."""

    def run(*args, status=0, **options):
        return finish(start_tool(*args, **options), status)

    return run


@pytest.fixture(scope='session')
def run_tool(start_tool):
    """Run a tool to its end.

    ``run_tool('train.py', 'tiny.py', cwd=..., status=0, extra=None)``
    (variables of the environment) returns the finished process, output
    decoded, after its status was checked.
    """

    def run(tool, *args, status=0, extra=None, **options):
        options = dict(options, separate=True, **(extra or {}))
        process = start_tool(tool, *args, **options)
        said = outputs(process, status)
        return subprocess.CompletedProcess(process.args, status, *said)

    return run


@pytest.fixture(scope='session')
def demo(once, run_tool):
    """Make a folder with small data and checkpoints of three demos.

    train.py has written the checkpoint of the image demo. The checkpoints of
    the other two demos hold the weights that a training starts from.
    """
    from demos import CONFIGS, build

    from cgnl_mm.datasets.digit_scenes import prepare_digit_scenes
    from cgnl_mm.datasets.moving_digits import prepare_moving_digits

    small = dict(num_train=1, num_test=2)

    def make(folder):
        data = folder / 'data'
        data.mkdir()
        prepare_moving_digits(str(data / 'movingdigits'), **small)
        prepare_digit_scenes(str(data / 'digitscenes'), **small)
        config = CONFIGS / 'r18_cgnl_digits.py'
        run_tool(
            'train.py', config, '--work-dir', 'run', '--no-validate',
            '--cfg-options', 'train_cfg._delete_=True',
            'train_cfg.by_epoch=False', 'train_cfg.max_iters=3',
            'param_scheduler=[]', 'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            'train_dataloader.batch_size=4',
            'default_hooks.checkpoint.by_epoch=False',
            'default_hooks.checkpoint.interval=3',
            'default_hooks.checkpoint.save_best=None',
            cwd=folder,
        )  # fmt: skip
        (folder / 'run/iter_3.pth').rename(folder / f'{config.stem}.pth')
        for name in (
            'i3d_r18_cgnl_movingdigits',
            'mask_rcnn_r18_fpn_cgnl_digitscenes',
        ):
            torch.manual_seed(0)
            model = build(Config.fromfile(CONFIGS / f'{name}.py'))
            model.init_weights()
            weights = dict(state_dict=model.state_dict())
            torch.save(weights, folder / f'{name}.pth')

    return once('demo', make)


@pytest.fixture
def run_here(monkeypatch):
    """Run a tool in this process."""
    # The tools set this variable for MMEngine.
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(tool, *args):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        tool = runpy.run_path(str(ROOT / f'tools/{tool}.py'))
        cli.run(tool['main'])

    yield run
    # The next test has another standard output.
    for kind in (MMLogger, Visualizer, MessageHub, DefaultScope):
        kind._instance_dict.clear()


@pytest.fixture
def message_of(run_here, capsys):
    """Run a tool here, expect status 2, return the error it prints."""

    def run(tool, *args):
        with pytest.raises(SystemExit) as end:
            run_here(tool, *args)
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert 'Traceback' not in error, error
        (line,) = [x for x in error.splitlines() if x.startswith('error: ')]
        return line

    return run
