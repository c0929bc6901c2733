"""Run train.py on a real project."""

import json
import shutil
import sys

import pytest
import torch

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints


@pytest.fixture
def trained(once, project, said_by):
    """Train for two epochs; return the work folder."""

    def make(folder):
        said_by('train.py', 'tiny.py', '--work-dir', folder, cwd=project)

    return once('trained', make)


def accuracies(work_dir):
    """Return {epoch: accuracy} of the newest session."""
    log = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    records = map(json.loads, log.read_text().splitlines())
    key = 'accuracy/top1'
    return {record['step']: record[key] for record in records if key in record}


@pytest.mark.starts('train.py; the uninterrupted run is a warm one')
def test_resumed_run_equals_uninterrupted_run(
    trained, project, said_by, tmp_path
):
    """The folder looks as if a kill had ended the job after one epoch."""
    shutil.copy(trained / 'epoch_1.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert sorted(accuracies(trained)) == [1, 2]
    said = said_by(
        *('train.py', 'tiny.py', '--resume', '--work-dir', tmp_path),
        cwd=project,
        python=sys.executable,
    )
    assert 'Epoch(train) [1]' not in said
    assert accuracies(tmp_path) == {2: accuracies(trained)[2]}
    whole = torch.load(trained / 'epoch_2.pth')
    resumed = torch.load(tmp_path / 'epoch_2.pth')
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    assert resumed['param_schedulers'] == whole['param_schedulers']
    assert resumed['meta']['iter'] == whole['meta']['iter'] == 6
