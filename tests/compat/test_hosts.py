"""Each host trains, evaluates and resumes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from cgnl_mm import compat

compat.apply()  # the checkpoints are looked into here

RUN = Path(__file__).with_name('host_run.py')
METRIC = dict(
    mmpretrain='accuracy/top1', mmaction='acc/top1', mmdet='coco/segm_mAP'
)


def log(work_dir):
    """All lines of all scalars.json, in order of writing."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [
        json.loads(line)
        for file in files
        for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize('host', METRIC)
def test_train_evaluate_resume(host, python, tmp_path):
    if importlib.util.find_spec(host) is None:
        pytest.skip(f'{host} is not installed')
    whole, rest = tmp_path / 'whole', tmp_path / 'rest'
    python(RUN, host, whole, '--epochs', 2)
    middle = whole / 'epoch_1.pth'
    # videos are read by decord first, then by PyAV
    second = python(
        RUN, host, rest, '--epochs=2', '--decoder=pyav', '--resume', middle
    )
    assert 'resumed epoch: 1, iter: 4' in second

    whole_log, rest_log = log(whole), log(rest)
    losses = column(whole_log, 'loss')
    assert len(losses) == 8 and all(0 < loss < 1e3 for loss in losses)
    assert len(column(whole_log, METRIC[host])) == 2
    assert len(column(rest_log, METRIC[host])) == 1
    # schedules, log history and the averaged model go on, not anew
    assert column(rest_log, 'lr') == column(whole_log, 'lr')[4:]
    assert column(whole_log, 'lr')[4] < column(whole_log, 'lr')[3] / 9
    before, after = torch.load(middle), torch.load(rest / 'epoch_2.pth')
    assert len(history(after)) == 8
    assert history(after)[:4] == history(before)
    assert after['ema_state_dict']['steps'] == 8
    assert any(
        not torch.equal(value, before['state_dict'][name])
        for name, value in after['state_dict'].items()
        if name.endswith('weight')
    )


def history(checkpoint):
    """The loss of each iteration that a checkpoint knows of."""
    scalars = checkpoint['message_hub']['log_scalars']
    return scalars['train/loss'].data[0].tolist()


def column(lines, key):
    return [line[key] for line in lines if key in line]
