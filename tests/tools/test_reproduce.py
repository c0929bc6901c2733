"""Run reproduce.py on a miniature grid, interrupt it, kill it, spoil it."""

import json
import os
import re
import shutil
import signal
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.image import imread
from runs import finish, wait_for
from torch.utils.flop_counter import FlopCounterMode

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.cli import load_config
from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.experiments.run import Run

ROOT = Path(__file__).parents[2]
METRIC = 'accuracy/top1'
SHARE = 'cgnl/*/gradient_share_phi'
# Random crops and dropped paths: twins have to draw the same.
MINI = """
title: Miniature
metrics: [accuracy/top1]
unit: '%'
seeds: [0, 1]
baseline: base
shape: [32, 32]
scalars: [cgnl/*/gradient_share_phi]
options:
  default_hooks.logger.interval: 1
  default_hooks.checkpoint.max_keep_ckpts: 1
  custom_hooks: [{type: CGNLStatisticsHook}]
  model.backbone.drop_path_rate: 0.3
  optim_wrapper.optimizer.lr: 0.05
  train_cfg.max_epochs: 4
  val_evaluator.topk: [1, 2]
  train_dataloader.dataset.pipeline:
    - {type: LoadImageFromFile}
    - {type: RandomCrop, crop_size: 32, padding: 4}
    - {type: PackInputs}
cells:
  base:
    config: tiny.py
    published: {paper: [84.05]}
  cgnl:
    config: tiny.py
    published: {paper: [85.14]}
    options:
      # so that the cells differ after four epochs
      optim_wrapper.optimizer.lr: 0.2
      model.backbone.plugins:
        - cfg: {type: CGNL2d, groups: 4, init_std: 0.1}
          after_blocks: [[], [], [-2], []]
"""


@pytest.fixture
def grid(project):
    """Write the miniature grid, after ``change(grid)``."""

    def write(change=lambda raw: None):
        raw = yaml.safe_load(MINI)
        change(raw)
        text = yaml.safe_dump(raw, sort_keys=False)
        (project / 'mini.yaml').write_text(text)

    write()
    return write


@pytest.fixture
def start(grid, project, start_tool, tmp_path):
    """Start the tool on the miniature; its folder is ``tmp_path/mini``."""
    folder = tmp_path / 'mini'

    def run(*options):
        return start_tool(
            'reproduce.py', 'mini.yaml', '--work-dir', folder, *options,
            cwd=project,
        )  # fmt: skip

    return run


@pytest.fixture
def reproduce(start):
    """Return what the tool prints, once it has ended with ``status``."""

    def run(*options, status=0):
        return finish(start(*options), status)

    return run


@pytest.fixture(scope='session')
def reproduced(project, run_tool, once):
    """Return the grid's folder after four trainings, and what was printed."""

    def make(folder):
        (project / 'mini.yaml').write_text(MINI)
        done = run_tool(
            'reproduce.py', 'mini.yaml', '--work-dir', folder,
            '--jobs', '2', cwd=project,
        )  # fmt: skip
        (folder / 'printed.txt').write_text(done.stdout)

    folder = once('reproduced', make)
    return folder, (folder / 'printed.txt').read_text()


@pytest.fixture
def copy(reproduced, tmp_path):
    """Return a copy of the folder, which may be spoilt."""
    return shutil.copytree(reproduced[0], tmp_path / 'mini')


def logged(folder, *run):
    """Return what the training logged, all sessions in order."""
    cell, seed = run or (None, None)
    folder = folder / f'{cell}/seed_{seed}' if run else folder
    return [
        json.loads(line)
        for log in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in log.read_text().splitlines()
    ]


def rows_of(folder):
    """Return the rows of results.csv by cell and seed, as texts."""
    frame = pd.read_csv(folder / 'results.csv', dtype=str, na_filter=False)
    return {(r['cell'], int(r['seed'])): r for _, r in frame.iterrows()}


def accuracies(*run):
    return [r[METRIC] for r in logged(*run) if METRIC in r]


def waiting(run, tool):
    """Return the process that FaultyHook lets wait, once it does."""
    done = run / 'done0'
    return int(wait_for(lambda: done.is_file() and done.read_text(), tool))


def test_csv_holds_what_was_logged(reproduced):
    folder, printed = reproduced
    assert '4 of 4 runs are finished' in printed
    rows = rows_of(folder)
    assert len(rows) == 4
    version = f'torch {torch.__version__.split("+")[0]}'
    for run, row in rows.items():
        values = accuracies(folder, *run)
        assert len(values) == 4
        assert float(row[f'{METRIC} last']) == values[-1]
        assert float(row[f'{METRIC} best']) == max(values)
        assert int(row[f'{METRIC} best_step']) == values.index(max(values)) + 1
        assert row['state'] == 'finished' and row['sessions'] == '1'
        assert float(row['memory_mb']) > 100  # torch alone is larger
        commit = r'[0-9a-f]{7,}\+?' if (ROOT / '.git').exists() else ''
        assert re.fullmatch(commit, row['commit'])
        assert version in row['versions'] and 'threads' not in row['versions']
        line = rf'^{run[0]}/seed_{run[1]}: {METRIC} [\d.]+ \(\d+ s\)$'
        assert len(re.findall(line, printed, re.MULTILINE)) == 1
    late = [r for r in logged(folder, 'cgnl', 0) if r['step'] > 6]
    share = [v for r in late for k, v in r.items() if k.endswith('share_phi')]
    assert float(rows['cgnl', 0][SHARE]) == np.median(share)
    assert rows['base', 0][SHARE] == ''
    if not hasattr(FlopCounterMode(display=False), 'mod_tracker'):
        return  # torch < 2.4: get_flops.py says so
    weights = torch.load(folder / 'cgnl/seed_0/epoch_4.pth')['state_dict']
    sizes = sum(
        weight.numel()
        for name, weight in weights.items()
        if not name.endswith(('mean', 'var', 'batches_tracked'))
    )
    assert int(rows['cgnl', 0]['parameters']) == sizes
    flops = [int(rows[cell, 0]['flops']) for cell in ('base', 'cgnl')]
    assert flops[1] > flops[0] > 0


def test_table_holds_mean_deviation_and_paired_difference(reproduced):
    folder, _ = reproduced
    rows = rows_of(folder)
    text = (folder / 'results.md').read_text('utf-8')
    header, _, *lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]
    base, cgnl = (dict(zip(header, line)) for line in lines)
    for which in ('last', 'best'):
        values = {}
        for name, line in (('base', base), ('cgnl', cgnl)):
            column = f'{METRIC} {which}'
            values[name] = [float(rows[name, seed][column]) for seed in (0, 1)]
            mean, std = np.mean(values[name]), np.std(values[name], ddof=1)
            told = f'{mean:.2f} ± {std:.2f}'
            assert line[f'{METRIC} (%), {which}'] == told
        # test_report.py compares the interval with SciPy's.
        gap = np.subtract(values['cgnl'], values['base']).mean()
        shown = float(cgnl[f'difference, {which}'].split()[0])
        assert shown == pytest.approx(gap, abs=0.0051)
    assert base['cell'] == 'base' and base['difference, last'] == '-'
    assert cgnl['cell'] == 'cgnl' and cgnl['published: paper'] == '85.14'
    assert f'torch {torch.__version__.split("+")[0]}' in text
    assert 'runs at a time 2' in text
    # The differences at the last and at the best epoch have a colour each.
    pixels = np.round(imread(folder / 'results.png')[..., :3] * 255)
    right = pixels[:, pixels.shape[1] // 2 :]
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (right == colour).all(-1).any()


def test_cells_with_one_seed_start_from_one_point(reproduced):
    """Weights, order, crops and dropped paths: the first loss is one."""
    folder, _ = reproduced
    first = {
        run: next(r['loss'] for r in logged(folder, *run) if 'loss' in r)
        for run in product(('base', 'cgnl'), (0, 1))
    }
    for seed in (0, 1):
        assert first['base', seed] == first['cgnl', seed]
    assert first['base', 0] != first['base', 1]


def test_finished_runs_are_left_alone(copy, reproduce):
    before = (copy / 'results.csv').read_text()
    assert 'runs to train' not in reproduce()
    assert len(list(copy.glob('*/seed_?/*/vis_data'))) == 4
    assert (copy / 'results.csv').read_text() == before


def test_changed_config_is_refused_and_a_failed_cell_survived(
    copy, grid, reproduce
):
    """A changed config is seen although a checkpoint was removed."""

    def change(raw):
        raw['cells']['cgnl']['options']['optim_wrapper.optimizer.lr'] = 0.3
        # labels 0 and 1 do not fit
        bad = {'model.head.num_classes': 1}
        raw['cells']['bad'] = dict(config='tiny.py', options=bad)

    grid(change)
    (copy / 'cgnl/seed_0/last_checkpoint').unlink()
    printed = reproduce('--only', 'cgnl|bad/seed_0', status=1)
    assert '2 of 6 runs are finished' in printed
    told = printed.split('report:')[1]
    for seed in (0, 1):
        assert (
            f'cgnl/seed_{seed}: trained with another config: '
            'optim_wrapper.optimizer.lr: 0.2, now 0.3.' in told
        )
    assert re.search(r'bad/seed_0: ended with status 2: error: .*label', told)
    rows = rows_of(copy)
    states = [rows[cell, 0]['state'] for cell in ('base', 'cgnl', 'bad')]
    assert states == ['finished', 'failed', 'failed']
    assert 'now 0.3' in rows['cgnl', 0]['reason']
    assert rows['bad', 1]['state'] == 'missing'
    assert '- bad/seed_0: ended' in (copy / 'results.md').read_text('utf-8')


def test_killed_or_interrupted_run_goes_on(
    grid, project, start, reproduce, tmp_path
):
    """A training outlives a killed tool and is left alone; Ctrl-C ends it."""

    def change(raw):
        raw['seeds'] = [0]
        del raw['cells']['cgnl']
        raw['cells']['base']['config'] = 'faulty.py'
        # in the third of four epochs, for ever
        raw['options']['custom_hooks'] = [
            dict(type='FaultyHook', what='wait', when='iteration', at=8)
        ]

    grid(change)
    imports = "custom_imports = dict(imports=['cgnl_mm', 'faulty_hook'])"
    faulty = f"_base_ = 'tiny.py'\n{imports}\n"
    (project / 'faulty.py').write_text(faulty)
    run = tmp_path / 'mini/base/seed_0'
    tool = start()
    pid = waiting(run, tool)
    tool.kill()
    tool.wait()
    os.kill(pid, 0)
    printed = reproduce()
    assert 'another process is training it' in printed
    assert '0 of 1 runs are finished' in printed
    os.killpg(pid, signal.SIGKILL)
    (run / 'done0').unlink()

    tool = start()
    pid = waiting(run, tool)
    tool.send_signal(signal.SIGINT)
    printed = finish(tool, 130)
    assert 'interrupted' in printed and '0 of 1 runs' in printed
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (run / 'record.json').exists()

    seen = len(logged(run))
    reproduce()
    (row,) = rows_of(tmp_path / 'mini').values()
    assert row['sessions'] == '3'
    assert row[f'{METRIC} last_step'] == '4'
    epochs = [r['epoch'] for r in logged(run)[seen:] if 'epoch' in r]
    assert (epochs[0], epochs[-1]) == (3, 4)


def test_two_tools_share_a_grid(grid, start, tmp_path):
    """Each run is trained once, and the last report has all of them."""

    def change(raw):
        raw['seeds'] = [0]
        raw['options']['train_cfg.max_epochs'] = 2

    grid(change)
    tools = [start(), start()]
    text = ''.join(finish(tool, 0) for tool in tools)
    for cell in ('base', 'cgnl'):
        assert text.count(f'{cell}/seed_0: accuracy') == 1
    assert '2 of 2 runs are finished' in text
    rows = rows_of(tmp_path / 'mini')
    assert [row['sessions'] for row in rows.values()] == ['1', '1']


def test_report_of_a_grid_that_asks_for_something_else(copy, grid, reproduce):
    """What the log has needs no training."""

    def change(raw):
        raw['metrics'] = ['accuracy/top2']
        raw['scalars'] = ['loss']

    grid(change)
    (log,) = copy.glob('base/seed_0/*/vis_data/scalars.json')
    log.write_text(re.sub(r'"loss": [^,}]+', '"loss": -1.5', log.read_text()))
    reproduce('--report-only')
    for (cell, seed), row in rows_of(copy).items():
        records = logged(copy, cell, seed)
        top2 = [r['accuracy/top2'] for r in records if 'accuracy/top2' in r]
        assert float(row['accuracy/top2 last']) == top2[-1]
        assert (float(row['loss']) > 0) == ((cell, seed) != ('base', 0))
        assert METRIC + ' last' not in row
    assert rows_of(copy)['base', 0]['loss'] == '-1.5'

    grid(lambda raw: raw.update(metrics=['accuracy/top9']))
    printed = reproduce('--report-only', status=1)
    assert "no metric 'accuracy/top9'" in printed


def test_slow_iteration_is_not_the_time_of_training(grid, copy, project):
    found = read_grid(project / 'mini.yaml')
    cell = found.cells['base']
    run = Run(found, cell, 0, load_config(cell.config, cell.options), copy)
    (log,) = run.folder.glob('*/vis_data/scalars.json')
    records = [dict(r, time=0.5) for r in logged(run.folder)]
    records[0]['time'] = 1000.0
    log.write_text('\n'.join(map(json.dumps, records)))
    assert run.record()['train_seconds'] == 12 * 0.5


@pytest.mark.parametrize('options, told', [
    (['--seeds', '0', '0'], 'mini.yaml: seeds [0, 0]: name each once'),
    (['--gpus', '99'], '--gpus 99: PyTorch sees'),
    (['--only', '('], "--only '(': "),
    (['--jobs', '0'], '--jobs must be a whole number'),
    (['--work-dir', 'tiny.py'], "--work-dir: 'tiny.py' is not a folder"),
])  # fmt: skip
def test_options_that_do_not_fit_are_one_line(
    grid, project, monkeypatch, message_of, options, told
):
    monkeypatch.chdir(project)
    line = message_of('reproduce', 'mini.yaml', *options)
    assert line.startswith(f'error: {told}')
    assert not Path('work_dirs/mini/base').exists()


@pytest.mark.parametrize('option, told', [
    ('modle.backbone.depth', 'did you mean model?'),
    ('default_hooks.loger.interval', 'did you mean logger?'),
    ('mine.depth', ''),
])  # fmt: skip
def test_option_that_nothing_knows(
    grid, project, monkeypatch, message_of, option, told
):
    monkeypatch.chdir(project)
    # MMEngine knows it, whatever the config has
    known = {'auto_scale_lr.enable': False, 'sync_bn': None}
    known['train_dataloader.drop_last'] = True
    grid(lambda raw: raw['options'].update({**known, option: 2}))
    line = message_of('reproduce', 'mini.yaml')
    assert f'tiny.py has no {option}' in line and line.endswith(told)


def test_missing_data_starts_nothing(tmp_path, monkeypatch, message_of):
    """The tool answers once; it does not start a process for each run."""
    monkeypatch.chdir(tmp_path)
    line = message_of('reproduce', ROOT / 'configs/grids/ucf101.yaml')
    assert 'does not exist' in line and 'tools/data/ucf101.py' in line
    assert not list(tmp_path.iterdir())
