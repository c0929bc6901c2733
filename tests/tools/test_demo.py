"""Run the demo on a few clips, as a user does, and draw its curves."""

import os
import re
import signal
import subprocess
from itertools import product
from pathlib import Path

import pytest
from PIL import Image
from runs import processes_in, wait_for

from cgnl_mm.experiments.demo import BLOCK, PLAIN, draw_curves

ROOT = Path(__file__).parents[2]
FEW = ['train_cfg.max_epochs=1', 'param_scheduler.0.total_steps=1']
for loader, split in product(('train', 'val'), ('train', 'test')):
    FEW.append(f'{loader}_dataloader.dataset.num_{split}=48')


@pytest.fixture
def start(warm, tmp_path):
    def run(*options):
        return subprocess.Popen(
            [warm, ROOT / 'tools/demo.py', '--cfg-options', *FEW, *options],
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return run


def test_demo_fails_stops_and_goes_on(start, tmp_path):
    out = tmp_path / 'work_dirs/demo'
    log = out / 'train_c2d_r18_digitclips.log'
    failing = start('optim_wrapper.optimizer.type=Adamant')
    printed = failing.communicate(timeout=100)[0]
    assert failing.returncode == 2
    assert printed.endswith(f'{log.relative_to(tmp_path)} says why\n')
    log.unlink()
    stopped = start()
    wait_for(lambda: log.is_file() and 'mmengine' in log.read_text())
    stopped.send_signal(signal.SIGINT)
    printed = stopped.communicate(timeout=100)[0]
    assert stopped.returncode == 2 and 'goes on' in printed.splitlines()[-1]
    assert not processes_in(tmp_path)
    whole = start()
    printed = whole.communicate(timeout=200)[0]
    assert whole.returncode == 0, printed
    for label in ('plain network', 'with a CGNL block'):
        assert re.search(rf'{label} +\d+\.\d %\n', printed)
    for path in printed.splitlines()[-2:]:
        Image.open(tmp_path / path.strip()).load()
    # MMEngine's dump is in the files alone.
    assert 'mmengine' in log.read_text() and 'mmengine' not in printed
    assert 'Warning' not in printed and 'WARNING' not in printed


def test_curves_stand_beside_the_bound():
    curves = {PLAIN: {1: 51.0, 2: 49.0}, BLOCK: {1: 80.0, 2: 96.4}}
    (axes,) = draw_curves(curves).axes
    bound, chance, plain, block = (x.get_ydata() for x in axes.get_lines())
    assert set(bound) == {100 * (1 / 2 + 19 / 108)} and set(chance) == {50}
    assert [*plain, *block] == [51, 49, 80, 96.4]
    texts = [text.get_text() for text in axes.texts]
    assert '67.6 %' in texts[0] and texts[-1] == 'with a CGNL block, 96 %'
