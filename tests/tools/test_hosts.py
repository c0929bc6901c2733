"""Each host trains, evaluates and resumes; two processes do without a GPU."""

import importlib.util
import shutil

import pytest
import torch
from demos import CONFIGS
from runs import SCENES, fault, scalars

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

# 8 samples, 2 a batch, and schedules that change at iteration 4
LINES = """
custom_hooks = [dict(type='EMAHook')]
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
data = dict({data})
train_dataloader = dict(dataset=data, **loader)
val_dataloader = dict(dataset=data, **loader)
test_dataloader = val_dataloader
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.005, momentum=0.9),
    clip_grad=dict(max_norm=10.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
    dict(type='MultiStepLR', milestones=[1], by_epoch=True)]
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best=None),
    logger=dict(interval=1))
"""
# of the project of tests/tools: png files; of the demos: mp4, png and json
SMALL = 'num_train=8, num_test=8, size=64'
CLIPS = """
model = dict(
    backbone=dict(base_channels=8), cls_head=dict(in_channels=64))
for name, part in dict(train=train_dataloader, val=val_dataloader).items():
    pipeline = _base_[f'{name}_pipeline'.replace('val', 'test')]
    pipeline[0], pipeline[2] = [
        dict(type='DECODER' + step) for step in ('Init', 'Decode')]
    part['dataset'] = dict(pipeline=pipeline, **data)
"""
HOSTS = dict(
    mmpretrain=('tiny.py', 'accuracy/top1', 'indices=8', ''),
    mmaction=(
        CONFIGS / 'i3d_r18_cgnl_movingdigits.py', 'acc/top1', SMALL, CLIPS,
    ),
    mmdet=(
        CONFIGS / 'mask_rcnn_r18_fpn_cgnl_digitscenes.py', 'coco/segm_mAP',
        SMALL, 'model = dict(backbone=dict(base_channels=8))\n' + SCENES,
    ),
)  # fmt: skip


def losses_known_to(checkpoint):
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    return history.data[0].tolist()


@pytest.mark.parametrize('host', HOSTS)
def test_train_evaluate_resume(host, project, said_by, tmp_path):
    if importlib.util.find_spec(host) is None:
        pytest.skip(f'{host} is not installed')
    base, metric, data, lines = HOSTS[host]
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    for decoder in ('Decord', 'PyAV'):
        text = f'_base_ = {str(base)!r}\n' + LINES.format(data=data) + lines
        text = text.replace('DECODER', decoder)
        (tmp_path / f'{decoder}.py').write_text(text)
    whole, rest = tmp_path / 'whole', tmp_path / 'rest'
    said_by('train.py', 'Decord.py', '--work-dir', whole, cwd=tmp_path)
    middle = whole / 'epoch_1.pth'
    said = said_by(
        *('train.py', 'PyAV.py', '--work-dir', rest, '--resume', middle),
        cwd=tmp_path,
    )
    assert 'resumed epoch: 1, iter: 4' in said

    losses = scalars(whole, 'loss')
    assert len(losses) == 8 and all(0 < loss < 1e3 for loss in losses)
    assert len(scalars(whole, metric)) == 2
    # ExactResumeHook, which the demos have, evaluates after epoch 1 first
    assert len(scalars(rest, metric)) == 1 + ('cut off' in said)
    # schedules, log history and the averaged model go on, not anew
    rates = scalars(whole, 'lr')
    assert scalars(rest, 'lr') == rates[4:]
    assert rates[4] < rates[3] / 9
    before, after = torch.load(middle), torch.load(rest / 'epoch_2.pth')
    assert len(losses_known_to(after)) == 8
    assert losses_known_to(after)[:4] == losses_known_to(before)
    assert after['ema_state_dict']['steps'] == 8
    assert any(
        not torch.equal(value, before['state_dict'][name])
        for name, value in after['state_dict'].items()
        if name.endswith('weight')
    )


# three epochs of two iterations, to be interrupted in the first two
EXACT = """
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
default_hooks.update(
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'))
default_hooks['checkpoint'].update(type='AtomicCheckpointHook')
optim_wrapper['accumulative_counts'] = 3
train_cfg['max_epochs'] = 3
"""
MOMENTS = [(how, at) for how in ('SIGTERM', 'SIGKILL') for at in (1, 2, 3, 4)]
IN_THE_FAST_TIER = ('SIGTERM', 4)  # the end of an epoch, inside a group


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
    host, how, at, project, once, said_by, tmp_path
):
    if importlib.util.find_spec(host) is None:
        pytest.skip(f'{host} is not installed')
    base, _, data, lines = HOSTS[host]

    def run(folder, *options, extra='', status=0):
        shutil.copytree(project, folder, dirs_exist_ok=True)
        less = data.replace('=8', '=4').replace('num_test=4', 'num_test=2')
        text = f'_base_ = {str(base)!r}\n' + LINES.format(data=less) + lines
        text = text.replace('DECODER', 'PyAV') + EXACT + extra
        (folder / 'run.py').write_text(text)
        said_by('train.py', 'run.py', *options, cwd=folder, status=status)
        return folder / 'work_dirs/run/epoch_3.pth'

    whole = once(f'exact {host}', run) / 'work_dirs/run/epoch_3.pth'
    extra = fault(how, 'iteration', at)
    run(tmp_path, extra=extra, status=-9 if how == 'SIGKILL' else 143)
    first, second = map(torch.load, (whole, run(tmp_path, '--resume')))
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(
            first[key], second[key], rtol=0, atol=0, msg=key
        )
    assert first['param_schedulers'] == second['param_schedulers']
    for key in ('epoch', 'iter'):
        assert first['meta'][key] == second['meta'][key]


def test_two_processes_without_a_gpu(project, said_by, warm_torch, tmp_path):
    """The config says nccl and SyncBN; nothing in it knows of the CPU."""
    record = cgnl_mm.compat.report()
    if 'cpu_distributed: applied' not in str(record):
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
