"""The detection demo through our tools: train, resume, test, dump."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/mask_rcnn_r18_fpn_cgnl_digitscenes.py'
# The threshold keeps the boxes of a network that has hardly learned.
SMALL = ['train_cfg.val_interval=1', 'model.test_cfg.rcnn.score_thr=0'] + [
    f'{loader}_dataloader.dataset.{option}'
    for loader in ('train', 'val', 'test')
    for option in ('num_train=8', 'num_test=4', 'size=64')
]


@pytest.fixture
def run(run_tool, tmp_path):
    def start(name, *args, epochs):
        done = run_tool(
            name, CONFIG, *args, '--work-dir', 'run', '--cfg-options', *SMALL,
            f'train_cfg.max_epochs={epochs}', cwd=tmp_path,
        )  # fmt: skip
        return done.stdout + done.stderr

    return start


def metrics(printed):
    """The last value of each."""
    return dict(re.findall(r'coco/(\w+): (\S+)', printed))


def test_trains_resumes_tests_and_dumps(run, tmp_path):
    run('train.py', '--seed', '0', epochs=1)
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    printed = run('train.py', '--resume', epochs=2)
    assert 'resumed epoch: 1, iter: 1' in printed
    trained = metrics(printed)
    assert trained.keys() > {'bbox_mAP', 'segm_mAP'}
    printed = run('test.py', 'run/epoch_2.pth', '--dump', 'out.pkl', epochs=1)
    assert metrics(printed) == trained
    assert (tmp_path / 'out.pkl').stat().st_size > 0
