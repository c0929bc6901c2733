"""train.py, test.py and dist_train.sh on a real project."""

import json
import shutil
import sys

import mmengine
import pytest
import torch

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints


@pytest.fixture
def trained(once, project, said_by):
    """The work folder after two epochs."""

    def make(folder):
        said_by('train.py', 'tiny.py', '--work-dir', folder, cwd=project)

    return once('trained', make)


def accuracies(work_dir):
    """{epoch: accuracy} of the newest session."""
    log = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return {
        record['step']: record['accuracy/top1']
        for record in records
        if 'accuracy/top1' in record
    }


def test_train_validates_and_saves_every_epoch(trained):
    assert sorted(accuracies(trained)) == [1, 2]
    assert (trained / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    assert torch.load(trained / 'epoch_2.pth')['meta']['epoch'] == 2


@pytest.mark.starts('train.py; the uninterrupted run is a warm one')
def test_resumed_run_equals_uninterrupted_run(
    trained, project, said_by, tmp_path
):
    """As if the job had been killed after its first epoch."""
    shutil.copy(trained / 'epoch_1.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    said = said_by(
        *('train.py', 'tiny.py', '--resume', '--work-dir', tmp_path),
        cwd=project,
        python=sys.executable,
    )
    assert 'Epoch(train) [1]' not in said
    assert accuracies(tmp_path) == {2: accuracies(trained)[2]}
    whole = torch.load(trained / 'epoch_2.pth')
    resumed = torch.load(tmp_path / 'epoch_2.pth')
    torch.testing.assert_close(
        resumed['state_dict'], whole['state_dict'], rtol=0, atol=0
    )
    torch.testing.assert_close(
        resumed['optimizer'], whole['optimizer'], rtol=0, atol=0
    )
    assert resumed['param_schedulers'] == whole['param_schedulers']
    assert resumed['meta']['iter'] == whole['meta']['iter'] == 6


def test_test_reproduces_the_validation_and_dumps(
    trained, project, said_by, tmp_path
):
    said_by(
        'test.py',
        'tiny.py',
        trained / 'epoch_2.pth',
        *('--work-dir', tmp_path, '--dump', tmp_path / 'predictions.pkl'),
        cwd=project,
    )
    (metrics,) = tmp_path.glob('*/*.json')
    accuracy = json.loads(metrics.read_text())['accuracy/top1']
    assert accuracy == accuracies(trained)[2]

    predictions = mmengine.load(tmp_path / 'predictions.pkl')
    right = sum(
        int(sample['pred_label'] == sample['gt_label'])
        for sample in predictions
    )
    assert len(predictions) == 24
    assert 100 * right / 24 == pytest.approx(accuracy)


def test_two_processes_share_the_training(project, said_by, tmp_path):
    """torchrun, gloo when there is no GPU: 24 images in 6 steps of 2 x 2."""
    said = said_by(
        'dist_train.sh',
        *('tiny.py', 2, '--work-dir', tmp_path, '--no-validate'),
        *('--cfg-options', 'train_cfg.max_epochs=1'),
        *('train_dataloader.batch_size=2',),
        cwd=project,
    )
    assert 'Epoch(train) [1][6/6]' in said
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert not accuracies(tmp_path)
