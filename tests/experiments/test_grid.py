"""Read grid files: the shipped ones, and those that do not fit."""

import json
import re
from pathlib import Path

import pytest
import torch
from demos import build
from mmengine.runner import set_random_seed

from cgnl_mm.cli import load_config
from cgnl_mm.errors import SetupError
from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.experiments.run import differences, make_plan

ROOT = Path(__file__).parents[2]
GRIDS = ROOT / 'configs/grids'
ALL = sorted(GRIDS.glob('*.yaml'))
GRID = """
title: Miniature
metrics: [accuracy/top1]
unit: '%'
seeds: [0, 1]
baseline: base
shape: [32, 32]
options: &all
  optim_wrapper.optimizer.lr: 0.05
  pipeline: [{type: RandomCrop, padding: 4}]
cells:
  base:
    config: tiny.py
    published: {paper: [84.05]}
  cgnl:
    config: tiny.py
    options: {<<: *all, optim_wrapper.optimizer.lr: 0.1}
"""


@pytest.fixture
def write(tmp_path):
    """Write the grid with one line replaced, in an encoding."""

    def write(old='', new='', encoding='utf-8'):
        assert old in GRID
        (tmp_path / 'tiny.py').touch()
        path = tmp_path / 'mini.yaml'
        path.write_bytes(GRID.replace(old, new, 1).encode(encoding))
        return path

    return write


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_merge_keys_and_encodings_of_yaml(write, encoding):
    path = write('Miniature', 'Größe', encoding)
    grid = read_grid(path, [7])
    assert (grid.name, grid.title, grid.seeds) == ('mini', 'Größe', [7])
    lr = 'optim_wrapper.optimizer.lr'
    base, cgnl = grid.cells.values()
    assert cgnl.options == {**base.options, lr: 0.1}
    assert base.options[lr] == 0.05 and 'pipeline' in base.options
    assert (base.baseline, cgnl.baseline) == (None, 'base')


@pytest.mark.parametrize('old, new, told', [
    ('metrics: [accuracy/top1]', 'metrics: []', "'metrics' or 'cells' is em"),
    ('seeds: [0, 1]', 'seeds: [0, 0]', 'name each once'),
    ('seeds: [0, 1]', 'seeds: [0, true]', "'seeds' must be list"),
    ('unit:', 'unite:', "has no key 'unite', only title"),
    ('baseline: base', 'baseline: bas', "no cell is called 'bas'"),
    ('baseline: base', 'baseline: [base]', "'baseline' must be str . None"),
    ('  cgnl:\n', '  base:\n', "line 1.: 'base' is there twice"),
    ('  cgnl:\n', '  1:\n', "'cells' must be dict"),
    ('  cgnl:\n', '  ../cgnl:\n', 'it names a folder'),
    ('unit:', 'note: .nan\nunit:', 'not JSON compliant'),
    ('seeds: [0, 1]', 'seeds: &a [0, *a]', 'Circular'),
    ('config: tiny.py', 'config: tin.py', 'no config .*tin.py'),
    ('[84.05]', '[84.05, 96]', 'each of the 1 metrics'),
    ('title: Miniature\n', '', "has no 'title'"),
    ('title: Miniature', 'title: [', 'while parsing'),
    ('Miniature', 'Größe', 'invalid'),
    (GRID, '- a', 'the grid must be a mapping'),
    ('optim_wrapper.optimizer.lr', '5', "'options' must be dict"),
])  # fmt: skip
def test_faults_of_a_grid_are_named(write, old, new, told):
    with pytest.raises(SetupError, match=f'^.*mini.yaml: .*{told}') as error:
        read_grid(write(old, new, 'latin-1'))
    assert '\n' not in str(error.value)


def test_unknown_grid_is_answered_by_one_that_is_there():
    with pytest.raises(SetupError, match=r'There is .*coco\.yaml'):
        read_grid('configs/grids/coc.yaml')


def test_every_published_row_is_in_its_grid():
    """The numbers of configs/README.md, which has a check of its own."""
    text = (ROOT / 'configs/README.md').read_text()
    row = re.compile(r'^\| \[`(\w+)`\]\(\w+\.py\) \|(.*)\|$', re.MULTILINE)
    wanted = {}
    for name, cells in row.findall(text):
        *published, _ = cells.split('|')[1:]
        numbers = re.findall(r'\d+\.\d+', ' '.join(published))
        if numbers and not re.search('digits$|kinetics400', name):
            wanted[name] = sorted(map(float, numbers))
    found = {}
    for path in ALL:
        for cell in read_grid(path).cells.values():
            numbers = [n for row in cell.published.values() for n in row]
            if numbers:
                found[cell.config.stem] = sorted(filter(None, numbers))
    assert found == wanted


@pytest.mark.parametrize('name', ['digits', 'movingdigits', 'norms_digits'])
def test_cells_differ_by_what_they_say_and_share_their_start(name):
    grid = read_grid(GRIDS / f'{name}.yaml')
    states, plans = {}, {}
    for cell in grid.cells.values():
        cfg = load_config(cell.config, cell.options)
        plans[cell.name] = make_plan(cfg)
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
        (changed,) = differences(plans['base'], plans[cell])
        assert changed.startswith('model.backbone.plugins: "(absent)"')
    # No two blocks are the same one.
    models = [plan['model'] for plan in plans.values()]
    assert len(set(map(json.dumps, models))) == len(models)


@pytest.mark.parametrize('path', ALL, ids=lambda p: p.stem)
def test_shipped_grid_fits_its_configs_and_says_how_to_run_it(path):
    """One cell of each baseline: the others have the same recipe."""
    grid = read_grid(path)
    command = f'# python tools/reproduce.py configs/grids/{path.name}'
    assert path.read_text().startswith(command)
    assert len(grid.seeds) >= 5
    assert f'({path.name})' in (GRIDS / 'README.md').read_text()
    for cell in {cell.baseline: cell for cell in grid.cells.values()}.values():
        cfg = load_config(cell.config, cell.options, strict=True)
        assert cfg.custom_hooks[0].type == 'CGNLStatisticsHook'
        if grid.test:  # the best checkpoint is tested
            assert cfg.default_hooks.checkpoint.save_best == 'auto'
        # What the grid changes of the data is meant for the test, too.
        train, test = cfg.train_dataloader, cfg.test_dataloader
        for key in ('size', 'stand', 'num_train', 'data_root'):
            assert train.dataset.get(key) == test.dataset.get(key)
