"""Each host trains, evaluates and resumes; two processes do without a GPU."""

import importlib.util
import json
import shutil

import mmengine
import pytest
import torch
from demos import CONFIGS
from runs import SCENES, fault, scalars

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

# 4 samples, 2 a batch, and schedules that change at iteration 2
LINES = """
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='EMAHook')]
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
data = dict({data})
train_dataloader = dict(dataset=data, **loader)
val_dataloader = dict(dataset=data, **loader)
test_dataloader = val_dataloader
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.005, momentum=0.9),
    clip_grad=dict(max_norm=10.), accumulative_counts=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
    dict(type='MultiStepLR', milestones=[1], by_epoch=True)]
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook', interval=1, max_keep_ckpts=-1,
        save_best=None),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    logger=dict(interval=1))
"""
# of the project of tests/tools: png files; of the demos: mp4, png and json
SMALL = 'num_train=4, num_test=2, size=64'
CLIPS = """
model = dict(
    backbone=dict(base_channels=8), cls_head=dict(in_channels=64))
for name, part in dict(train=train_dataloader, val=val_dataloader).items():
    pipeline = _base_[f'{name}_pipeline'.replace('val', 'test')]
    pipeline[0], pipeline[2] = [
        dict(type='Decord' + step) for step in ('Init', 'Decode')]
    part['dataset'] = dict(pipeline=pipeline, **data)
"""
HOSTS = dict(
    mmpretrain=('tiny.py', 'accuracy/top1', 'indices=4', ''),
    mmaction=(
        CONFIGS / 'i3d_r18_cgnl_movingdigits.py', 'acc/top1', SMALL, CLIPS,
    ),
    mmdet=(
        CONFIGS / 'mask_rcnn_r18_fpn_cgnl_digitscenes.py', 'coco/segm_mAP',
        SMALL, 'model = dict(backbone=dict(base_channels=8))\n' + SCENES,
    ),
)  # fmt: skip


MOMENTS = [(how, at) for how in ('SIGTERM', 'SIGKILL') for at in (1, 2, 3, 4)]
IN_THE_FAST_TIER = ('SIGTERM', 4)  # the end of an epoch, inside a group


@pytest.fixture
def run(request, project, said_by):
    """Train one of the hosts' networks in a folder; return the run's."""
    host = request.getfixturevalue('host')
    if importlib.util.find_spec(host) is None:
        pytest.skip(f'{host} is not installed')
    base, _, data, lines = HOSTS[host]

    def run(folder, *options, extra='', status=0):
        shutil.copytree(project, folder, dirs_exist_ok=True)
        text = f'_base_ = {str(base)!r}\n' + LINES.format(data=data) + lines
        (folder / 'run.py').write_text(text + extra)
        said_by('train.py', 'run.py', *options, cwd=folder, status=status)
        return folder / 'work_dirs/run'

    return run


@pytest.fixture
def whole(once, run, host):
    # torch.distributed.launch, which openmim takes, passes the option
    def train(folder):
        run(folder, '--local-rank=0')

    return once(f'whole {host}', train) / 'work_dirs/run'


@pytest.mark.parametrize('host', HOSTS)
def test_train_and_evaluate(host, whole, said_by, tmp_path):
    losses = scalars(whole, 'loss')
    assert len(losses) == 6 and all(0 < loss < 1e3 for loss in losses)
    assert len(scalars(whole, HOSTS[host][1])) == 3
    first, last = (torch.load(whole / f'epoch_{n}.pth') for n in (1, 3))
    assert last['ema_state_dict']['steps'] == 6
    assert any(
        not torch.equal(value, first['state_dict'][name])
        for name, value in last['state_dict'].items()
        if name.endswith('weight')
    )
    metric = HOSTS[host][1]
    tested = tmp_path / 'tested'
    options = '--work-dir', tested, '--dump', tmp_path / 'out.pkl'
    files = 'run.py', whole / 'epoch_3.pth'
    said_by('test.py', *files, *options, cwd=whole.parents[1])
    (metrics,) = tested.glob('*/*.json')
    assert json.loads(metrics.read_text())[metric] == scalars(whole, metric)[2]
    assert len(mmengine.load(tmp_path / 'out.pkl')) > 0


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize(
    'how, at',
    [
        pytest.param(
            *moment,
            marks=[] if moment == IN_THE_FAST_TIER else pytest.mark.nightly,
        )
        for moment in MOMENTS
    ],
)
def test_interrupted_run_ends_as_the_whole_one(
    host, how, at, run, whole, tmp_path
):
    extra = fault(how, 'iteration', at)
    run(tmp_path, extra=extra, status=-9 if how == 'SIGKILL' else 143)
    folders = whole, run(tmp_path, '--resume')
    first, second = (torch.load(path / 'epoch_3.pth') for path in folders)
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(
            first[key], second[key], rtol=0, atol=0, msg=key
        )
    assert first['param_schedulers'] == second['param_schedulers']
    for key in ('train/loss', 'train/lr', f'val/{HOSTS[host][1]}'):
        one, other = (
            run['message_hub']['log_scalars'][key].data[0].tolist()
            for run in (first, second)
        )
        assert one == other, key


def test_two_processes_without_a_gpu(project, said_by, warm_torch, tmp_path):
    """The config says nccl and SyncBN; nothing in it knows of the CPU."""
    if cgnl_mm.compat.report()['cpu_distributed'] != 'applied':
        pytest.skip('needs a machine without a GPU')
    lines = (
        "_base_ = './tiny.py'\n"
        "model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))\n"
        "env_cfg = dict(dist_cfg=dict(backend='nccl'))\n"
        'train_cfg = dict(max_epochs=1)\n'
    )
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    (tmp_path / 'run.py').write_text(lines)
    off = said_by(
        *('dist_train.sh', 'run.py', 1),
        cwd=tmp_path,
        status=1,
        python=warm_torch,
        CGNL_MM_COMPAT='-cpu_distributed',
    )
    assert 'set_device' in off
    said = said_by('dist_train.sh', 'run.py', 2, cwd=tmp_path)
    # 24 images, 8 a batch, 2 processes
    assert 'Epoch(train) [1][2/2]' in said
    assert 'Epoch(val) [1][2/2]' in said
    assert 'each process normalises over its own samples' in said
