"""The detection demo through our tools: train, resume, test, dump."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/mask_rcnn_r18_fpn_cgnl_digitscenes.py'


def tool(name, *args, cwd):
    options = ['train_cfg.val_interval=1']
    for loader in ('train', 'val', 'test'):
        for option in ('num_train=8', 'num_test=4', 'size=64'):
            options.append(f'{loader}_dataloader.dataset.{option}')
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / name, CONFIG, *args,
         '--work-dir', 'run', '--cfg-options', *options,
         f'train_cfg.max_epochs={2 if "--resume" in args else 1}'],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def metrics(printed):
    """The last AP of boxes and of masks."""
    return [
        re.findall(rf'coco/{kind}_mAP: (\S+)', printed)[-1]
        for kind in ('bbox', 'segm')
    ]


def test_trains_resumes_tests_and_dumps(tmp_path):
    tool('train.py', '--seed', '0', cwd=tmp_path)
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    printed = tool('train.py', '--resume', cwd=tmp_path)
    assert 'resumed epoch: 1, iter: 1' in printed
    trained = metrics(printed)
    printed = tool(
        'test.py', 'run/epoch_2.pth', '--dump', 'out.pkl', cwd=tmp_path
    )
    assert metrics(printed) == trained
    assert (tmp_path / 'out.pkl').stat().st_size > 0
