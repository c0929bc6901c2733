"""Merging of sessions, and what plot_curves.py draws and says.

The logs have the form of real ones; test_train_and_test.py makes those.
"""

import importlib.util
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(
        'plot_curves', TOOLS / 'plot_curves.py'
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__('sys').modules, 'plot_curves', module)
    spec.loader.exec_module(module)
    return module


def write_session(
    run, name, epochs, loss=1.0, metric='acc/top1', by_epoch=True
):
    """Two iterations per epoch, each logged, then a validation."""
    folder = run / name / 'vis_data'
    folder.mkdir(parents=True)
    lines = []
    for epoch in epochs:
        for step in (2 * epoch - 1, 2 * epoch):
            record = dict(loss=loss / step, lr=0.1, time=0.1)
            if by_epoch:
                record['epoch'] = epoch
            lines.append(dict(record, iter=step, step=step))
        at = epoch if by_epoch else 2 * epoch
        lines.append({metric: loss * epoch / 10, 'time': 0.2, 'step': at})
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)
    (run / name / f'{name}.log').touch()
    return folder / 'scalars.json'


def losses(curves):
    return {record['step']: record['loss'] for record in curves.train}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_resumed_session_replaces_what_it_repeats(tool, tmp_path, by_epoch):
    """Killed after epoch 3, resumed from epoch 2: 3 is the second one."""
    write_session(tmp_path, '20260101_000000', [1, 2, 3], by_epoch=by_epoch)
    write_session(tmp_path, '20260102_000000', [3, 4], 2, by_epoch=by_epoch)
    curves = tool.read_curves(tmp_path)
    assert losses(curves) == pytest.approx(
        {1: 1, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4, 5: 2 / 5, 6: 2 / 6, 7: 2 / 7,
         8: 2 / 8}
    )  # fmt: skip
    assert len(curves.train) == 8
    unit = 1 if by_epoch else 2
    assert curves.by_epoch == by_epoch
    assert curves.points('acc/top1') == [
        (1 * unit, 0.1),
        (2 * unit, 0.2),
        (3 * unit, 0.6),
        (4 * unit, 0.8),
    ]


def test_fresh_start_in_the_same_folder_forgets_the_old_run(tool, tmp_path):
    write_session(tmp_path, '20260101_000000', [1, 2, 3])
    write_session(tmp_path, '20260102_000000', [1], loss=4)
    curves = tool.read_curves(tmp_path)
    assert losses(curves) == {1: 4, 2: 2}
    assert curves.points('acc/top1') == [(1, 0.4)]


def test_half_a_line_of_a_killed_run_is_skipped(tool, tmp_path, capsys):
    log = write_session(tmp_path, '20260101_000000', [1])
    with log.open('a') as file:
        file.write('{"loss": 0.')
    assert len(tool.read_curves(tmp_path).train) == 2
    assert 'skipped \'{"loss": 0.\'' in capsys.readouterr().err


@pytest.mark.parametrize(
    'metric', ['accuracy/top1', 'acc/top1', 'coco/bbox_mAP', 'my/metric']
)
def test_summary_names_last_and_best(tool, tmp_path, metric):
    write_session(tmp_path, '20260101_000000', [1, 2], metric=metric)
    write_session(tmp_path, '20260102_000000', [3], 0.1, metric=metric)
    (tmp_path / 'last_checkpoint').write_text('/runs/a/epoch_3.pth')
    text = tool.summary(tool.read_curves(tmp_path), None)
    assert f'{metric}: 0.03 after epoch 3 (best: 0.2, epoch 2)' in text
    assert '20260102_000000.log' in text
    assert '/runs/a/epoch_3.pth' in text


def test_main_metric_of_the_host_is_preferred(tool):
    curves = tool.Curves(Path('x'))
    curves.val = [
        {'coco/bbox_mAP_50': 0.9, 'coco/segm_mAP': 0.3, 'coco/bbox_mAP': 0.4}
    ]
    assert curves.metrics() == ['coco/bbox_mAP', 'coco/segm_mAP']


def colours(png):
    pixels = matplotlib.image.imread(png)[..., :3]
    return {tuple(color) for color in np.round(pixels * 255).reshape(-1, 3)}


def test_every_run_has_its_line(tool, tmp_path):
    """The colours of both runs are in the picture; alone, only one is."""
    runs = []
    for name in ('base', 'cgnl'):
        write_session(tmp_path / name, '20260101_000000', [1, 2, 3])
        runs.append(tool.read_curves(tmp_path / name))
    first, second = (31, 119, 180), (255, 127, 14)
    tool.plot(runs[:1], None, tmp_path / 'one.png')
    tool.plot(runs, None, tmp_path / 'sub/both.png')
    assert first in colours(tmp_path / 'one.png')
    assert second not in colours(tmp_path / 'one.png')
    assert {second} <= colours(tmp_path / 'sub/both.png')


def test_run_without_validation(tool, tmp_path):
    log = write_session(tmp_path, '20260101_000000', [1])
    lines = log.read_text().splitlines()
    log.write_text('\n'.join(lines[:2]))
    curves = tool.read_curves(tmp_path)
    tool.plot([curves], None, tmp_path / 'curves.png')
    assert 'validation: none logged' in tool.summary(curves, None)
