"""Merging of sessions, and what plot_curves.py draws and says.

The logs have the form of real ones; test_train_and_test.py makes those.
"""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest


@pytest.fixture
def tool(load_tool):
    return load_tool('plot_curves')


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


def has_colour(png, colour):
    pixels = np.round(matplotlib.image.imread(png)[..., :3] * 255)
    return (pixels == colour).all(-1).any()


def test_every_run_has_its_line(tool, tmp_path):
    """The colours of both runs are in the picture; alone, only one is."""
    runs = []
    for name in ('base', 'cgnl'):
        write_session(tmp_path / name, '20260101_000000', [1, 2, 3])
        runs.append(tool.read_curves(tmp_path / name))
    first, second = (31, 119, 180), (255, 127, 14)
    tool.plot(runs[:1], None, tmp_path / 'one.png')
    tool.plot(runs, None, tmp_path / 'sub/both.png')
    assert has_colour(tmp_path / 'one.png', first)
    assert not has_colour(tmp_path / 'one.png', second)
    assert has_colour(tmp_path / 'sub/both.png', second)


def test_run_without_validation(tool, tmp_path):
    log = write_session(tmp_path, '20260101_000000', [1])
    lines = log.read_text().splitlines()
    log.write_text('\n'.join(lines[:2]))
    curves = tool.read_curves(tmp_path)
    tool.plot([curves], None, tmp_path / 'curves.png')
    assert 'validation: none logged' in tool.summary(curves, None)


def write_seeds(folder, losses, epochs=3):
    for seed, loss in enumerate(losses):
        run = folder / f'base_seed{seed}'
        write_session(run, '20260101_000000', range(1, epochs + 1), loss)


def test_seeds_are_one_curve_with_its_mean_and_band(tool, tmp_path):
    write_seeds(tmp_path, [1, 2, 6])
    write_session(tmp_path / 'other', '20260101_000000', [1, 2])
    names = 'base_seed0', 'other', 'base_seed2', 'base_seed1'
    runs = [tool.read_curves(tmp_path / name) for name in names]
    groups = tool.grouped(runs, seeds=True)
    assert {name: len(group) for name, group in groups.items()} == {
        'base (3 seeds)': 3,
        'other': 1,
    }
    lines = [curves.points('acc/top1') for curves in groups['base (3 seeds)']]
    steps, means, deviations = tool.mean_and_deviation(lines)
    assert steps == [1, 2, 3]
    assert means == pytest.approx([0.3, 0.6, 0.9])
    # of 1, 2 and 6: sqrt((4 + 1 + 9) / 2)
    assert deviations == pytest.approx([7**0.5 * e / 10 for e in (1, 2, 3)])


@pytest.mark.parametrize('names, expected', [
    (('a/seed_0', 'a/seed_1', 'b/seed_0'), ['a (2 seeds)', 'b']),
    (('x/a/seed0', 'y/a/seed0'), ['x/a', 'y/a']),
    (('a-seed=1', 'a-seed=12'), ['a (2 seeds)']),
    (('seeded1', 'seeded2'), ['seeded1', 'seeded2']),
])  # fmt: skip
def test_names_of_seeds(tool, names, expected):
    runs = [tool.Curves(Path(name)) for name in names]
    assert list(tool.grouped(runs, seeds=True)) == expected


def test_without_seeds_every_run_is_its_own(tool):
    runs = [tool.Curves(Path(name)) for name in ('a_seed0', 'a_seed1')]
    assert list(tool.grouped(runs, seeds=False)) == ['a_seed0', 'a_seed1']


def test_killed_seed_ends_the_mean(tool):
    lines = [[(1, 1.0), (2, 3.0), (3, 5.0)], [(1, 3.0), (2, 5.0)], []]
    steps, means, deviations = tool.mean_and_deviation(lines)
    assert (steps, means) == ([1, 2], [2, 4])
    assert deviations == pytest.approx([2**0.5] * 2)
    assert tool.mean_and_deviation([[], []]) == ([], [], [])


def test_band_is_drawn(tool, tmp_path):
    """A fifth of the line's colour over white; without a spread, none."""
    areas = {}
    for name, losses in (('same', [1, 1]), ('spread', [1, 9])):
        write_seeds(tmp_path / name, losses)
        folders = sorted((tmp_path / name).iterdir())
        runs = [tool.read_curves(folder) for folder in folders]
        png = tmp_path / f'{name}.png'
        tool.plot(runs, None, png, seeds=True)
        pixels = 255 * matplotlib.image.imread(png)[..., :3]
        near = abs(pixels - (210, 228, 240)).max(-1) < 2
        areas[name] = near.sum()
    assert areas['spread'] > 10_000 > 100 > areas['same']


def test_any_scalar_has_its_panel(tool, tmp_path, capsys, monkeypatch):
    write_session(tmp_path / 'run', '20260101_000000', [1, 2])
    curves = tool.read_curves(tmp_path / 'run')
    assert curves.logged('lr') == [(step, 0.1) for step in (1, 2, 3, 4)]
    widths = []
    for scalars in (['loss'], ['loss', 'lr', 'time']):
        out = tmp_path / 'curves.png'
        argv = ['plot_curves.py', str(tmp_path / 'run'), '--out', str(out)]
        monkeypatch.setattr('sys.argv', [*argv, '--scalar', *scalars])
        tool.main()
        widths.append(matplotlib.image.imread(out).shape[1])
    assert widths[1] == 2 * widths[0]  # four panels, two
    monkeypatch.setattr('sys.argv', [*argv, '--scalar', 'acc/top1'])
    message = r'--scalar acc/top1: no run .* They report loss, lr, time$'
    with pytest.raises(Exception, match=message):
        tool.main()


def test_patterns_are_the_names_they_match(tool):
    known = {'cgnl/a/mean', 'cgnl/b/mean', 'cgnl/a/std', 'loss', 'x[0]'}
    found = tool.matching(['loss', 'cgnl/*/mean', 'c*mean'], known, '--scalar')
    assert found == ['loss', 'cgnl/a/mean', 'cgnl/b/mean']
    assert tool.matching(['x[0]'], known, '--scalar') == ['x[0]']
    assert tool.matching([], known, '--scalar') == []


def test_logarithmic_axis(tool, tmp_path, monkeypatch):
    from matplotlib import pyplot

    write_session(tmp_path, '20260101_000000', [1, 2])
    curves = tool.read_curves(tmp_path)
    shown = []
    monkeypatch.setattr(pyplot, 'close', shown.append)  # still to be seen
    for lowest, log in ((1e-4, False), (1e-4, True), (0, True)):
        curves.train[0]['loss'] = lowest
        out = tmp_path / 'curves.png'
        tool.plot([curves], None, out, ['loss'] * 5, log=log)
    monkeypatch.undo()
    scales = [[axes.get_yscale() for axes in fig.axes[:6]] for fig in shown]
    assert scales == [
        [scale] * 5 + ['linear'] for scale in ('linear', 'log', 'symlog')
    ]
    rows = [axes.get_position().y0 > 0.5 for axes in shown[0].axes[:6]]
    assert rows == [True] * 4 + [False] * 2
    for fig in shown:
        pyplot.close(fig)


def test_statistics_of_a_block_are_of_training(tool, tmp_path):
    """Their records hold a step, but neither iteration nor epoch."""
    name = 'cgnl/layer3.cgnl_4/attention_mean'
    for session, epochs in (('1', [1, 2, 3]), ('2', [3, 4])):
        log = write_session(tmp_path, session, epochs)
        lines = []
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if 'iter' in record:
                own = {name: int(session), 'step': record['step']}
                lines.append(json.dumps(own))
            lines.append(line)
        log.write_text('\n'.join(lines))
    curves = tool.read_curves(tmp_path)
    assert curves.by_epoch
    assert curves.logged(name) == [
        (step, 1 if step < 5 else 2) for step in range(1, 9)
    ]
    assert [step for step, _ in curves.points('acc/top1')] == [1, 2, 3, 4]
    assert curves.reported() == ['acc/top1']
