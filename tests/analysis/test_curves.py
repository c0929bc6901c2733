"""Merging of sessions, and what plot_curves draws and says.

The logs have the form of real ones; test_train_and_test.py makes those.
"""

import json
import math
from pathlib import Path

import pytest
from matplotlib.image import imread

from cgnl_mm.analysis.curves import Curves, read_curves
from cgnl_mm.analysis.plot import draw_runs, group_runs, plot_curves
from cgnl_mm.errors import SetupError

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def write_session(
    run, epochs, loss=1.0, name='1', metric='acc/top1', by_epoch=True
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
            # CGNLStatisticsHook logs neither an iteration nor an epoch.
            lines.append({'cgnl/a': int(name), 'step': step})
            lines.append(dict(record, iter=step, step=step))
        at = epoch if by_epoch else 2 * epoch
        lines.append({metric: loss * epoch / 10, 'time': 0.2, 'step': at})
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)
    return folder / 'scalars.json'


def pixels_like(png, colour):
    """Count the pixels of a colour."""
    pixels = 255 * imread(png)[..., :3]
    return (abs(pixels - colour).max(-1) < 0.5).sum()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_resumed_session_replaces_what_it_repeats(tmp_path, by_epoch):
    """Killed after epoch 3, resumed from epoch 2: 3 is the second one."""
    write_session(tmp_path, [1, 2, 3], by_epoch=by_epoch)
    write_session(tmp_path, [3, 4], 2, '2', by_epoch=by_epoch)
    curves = read_curves(tmp_path)
    expected = {step: (1 if step < 5 else 2) / step for step in range(1, 9)}
    assert dict(curves.logged('loss')) == pytest.approx(expected)
    assert [v for _, v in curves.logged('cgnl/a')] == [1] * 4 + [2] * 4
    unit = 1 if by_epoch else 2
    values = enumerate((0.1, 0.2, 0.6, 0.8), 1)
    assert curves.points('acc/top1') == [(unit * n, v) for n, v in values]
    assert curves.reported() == ['acc/top1']


def test_fresh_start_in_the_same_folder_forgets_the_old_run(tmp_path):
    write_session(tmp_path, [1, 2, 3])
    write_session(tmp_path, [1], 4, '2')
    curves = read_curves(tmp_path)
    assert curves.logged('loss') == [(1, 4), (2, 2)]
    assert curves.points('acc/top1') == [(1, 0.4)]
    # The folder of one session is a run of its own.
    assert len(read_curves(tmp_path / '1').train) == 12


def test_half_a_line_of_a_killed_run_is_skipped(tmp_path, capsys):
    log = write_session(tmp_path, [1])
    with log.open('ab') as file:
        file.write(b'{"loss": 0.\xe9')
    assert len(read_curves(tmp_path).train) == 4
    assert 'skipped \'{"loss": 0.' in capsys.readouterr().err


def test_main_metric_of_the_host_is_preferred():
    names = ('coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/bbox_mAP')
    curves = Curves(Path('x'), val=[dict.fromkeys(names, 0.9)])
    assert curves.metrics() == ['coco/bbox_mAP', 'coco/segm_mAP']
    # NaN is not the best.
    curves.val = [dict(step=1, x=math.nan), dict(step=2, x=0.1)]
    assert curves.ends('x')['best_step'] == 2


def test_every_run_has_its_line(tmp_path):
    """The colours of both runs are in the picture; alone, only one is."""
    runs = [tmp_path / name for name in ('base', 'cgnl')]
    for run in runs:
        write_session(run, [1, 2, 3])
    one, both = runs[0] / 'curves.png', tmp_path / 'sub/both.png'
    assert plot_curves(runs[:1]) == one
    plot_curves(runs, both)
    assert pixels_like(one, BLUE) and not pixels_like(one, ORANGE)
    assert pixels_like(both, ORANGE)


@pytest.mark.parametrize('names, expected', [
    (('a/seed_0', 'a/seed_1', 'b/seed_0'), ['a (2 seeds)', 'b']),
    (('x/a/seed0', 'y/a/seed0'), ['a', 'a']),
    (('a-seed=1', 'a-seed=12'), ['a (2 seeds)']),
    (('seeded1', 'seeded2'), ['seeded1', 'seeded2']),
])  # fmt: skip
def test_names_of_seeds(tmp_path, names, expected):
    for name in names:
        write_session(tmp_path / name, [1])
    groups = group_runs([tmp_path / name for name in names], seeds=True)
    labels = draw_runs(groups).axes[0].get_legend_handles_labels()[1]
    assert labels == expected


@pytest.mark.parametrize('lines, steps, means, ranges', [
    ([[(1, 6.0)], [(1, 1.0)], [(1, 2.0)]], [1], [3], [(1, 6)]),
    # A killed seed ends the mean; one without a point does not count.
    ([[(1, 1.0), (2, 3.0), (3, 5.0)], [(1, 3.0), (2, 5.0)], []], [1, 2],
     [2, 4], [(1, 3), (3, 5)]),
    ([[(1, 1.0)], [(1, math.nan)]], [1], [math.nan], None),
    ([[], []], None, None, None),
])  # fmt: skip
def test_mean_and_range_of_seeds(lines, steps, means, ranges):
    runs = [
        Curves(
            Path('x'), [dict(step=step, loss=value) for step, value in line]
        )
        for line in lines
    ]
    axes = draw_runs(dict(a=runs)).axes[0]
    if steps is None:
        assert not axes.get_lines()
        return
    (line,) = axes.get_lines()
    assert line.get_label() == f'a ({len(lines)} seeds)'
    assert list(line.get_xdata()) == steps
    assert list(line.get_ydata()) == pytest.approx(means, nan_ok=True)
    if ranges:
        corners = axes.collections[0].get_paths()[0].vertices.tolist()
        for step, ends in zip(steps, ranges):
            assert {y for x, y in corners if x == step} == {*ends}


@pytest.mark.parametrize('out', ['x.doc', '1/vis_data/scalars.json/x.png'])
def test_picture_that_cannot_be_written_is_told(tmp_path, out):
    write_session(tmp_path, [1])
    with pytest.raises(SetupError, match=f'^--out .*{out} cannot be written'):
        plot_curves([tmp_path], tmp_path / out)
    assert not list(tmp_path.rglob('*.png'))
