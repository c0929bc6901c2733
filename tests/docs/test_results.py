"""The tables of docs/results.md are those of docs/results/*.csv."""

import csv
import math
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GRIDS = ('digits', 'movingdigits', 'mnist5k', 'norms')
SECONDS = ('train_seconds', 'memory_mb')
NBSP = '\xa0'  # keeps a number and its deviation on one line


@pytest.fixture(scope='module')
def modules():
    sys.path.insert(0, str(ROOT / 'tools'))
    yield import_module
    sys.path.remove(str(ROOT / 'tools'))


def tables_of(name):
    """Rows by cell of both tables in the page's section, headers first."""
    text = (ROOT / 'docs/results.md').read_text()
    _, _, section = text.partition(f'\n## {name}\n')
    section = section.split('\n## ')[0]
    found = []
    for table in re.findall(r'(?:^\|.*\n)+', section, re.MULTILINE):
        rows = [
            [c.strip() for c in line.strip('|').replace(NBSP, ' ').split('|')]
            for line in table.splitlines()
        ]
        found.append({row[0]: row for row in rows})
    return found


def results_of(name, modules):
    """The csv as the records that it was written from."""
    grid = modules('_reproduce_grid').read_grid(
        str(ROOT / f'configs/grids/{name}.yaml')
    )
    records, costs = {}, {}
    with open(ROOT / f'docs/results/{name}.csv', encoding='utf-8') as file:
        for row in csv.DictReader(file):
            assert (row['grid'], row['state']) == (name, 'finished')
            metric = grid.metrics[0]
            records[row['cell'], int(row['seed'])] = dict(
                metrics={
                    metric: {
                        which: float(row[f'{metric} {which}'])
                        for which in ('last', 'best')
                    }
                },
                scalars={s: float(row[s]) for s in grid.scalars if row[s]},
                **{key: float(row[key]) for key in SECONDS},
            )
            costs[row['cell']] = dict(
                params=int(row['parameters']), flops=int(row['flops'])
            )
    assert {cell for cell, _ in records} == set(grid.cells)
    assert len(records) == len(grid.cells) * len(grid.seeds)
    return modules('_reproduce_report').Results(grid, records, {}, costs, '')


@pytest.mark.parametrize('name', GRIDS)
def test_numbers_are_those_of_the_csv(modules, name):
    report = modules('_reproduce_report')
    results = results_of(name, modules)
    grid, metric = results.grid, results.grid.metrics[0]
    numbers, costs = tables_of(name)
    adjusted = results.adjusted()
    cells = list(grid.cells)
    assert [*numbers][2:] == cells and [*costs][2:] == cells
    for cell in grid.cells.values():
        last, best = (
            report._spread(results.values(cell.name, metric, which).values())
            for which in ('last', 'best')
        )
        at_last, at_best = (
            report._interval(results.difference(cell, which), len(grid.seeds))
            for which in ('last', 'best')
        )
        p = report._p_value(adjusted.get(cell.name, math.nan))
        scalars = [
            report._range(results.scalar(cell.name, pattern)).strip('-')
            for pattern in grid.scalars
        ]
        expected = [cell.name, last, best, at_last, p, at_best, *scalars]
        assert numbers[cell.name] == expected
        cost = results.costs[cell.name]
        assert costs[cell.name] == [
            cell.name,
            report._amount(cost['params']),
            report._amount(cost['flops']),
            *(report._median(results.of_runs(cell.name, k)) for k in SECONDS),
        ]


def test_page_says_what_the_gradient_shares_are(modules):
    """The smallest and largest median of cells off GroupNorm per group."""
    results = results_of('norms', modules)
    report = modules('_reproduce_report')
    medians = [
        float(report._range(results.scalar(cell, pattern)).split()[0])
        for cell in results.grid.cells
        if re.match('dot_(gn1|bn|none)', cell)
        for pattern in results.grid.scalars
        if 'gradient_share' in pattern
    ]
    assert len(medians) == 10
    text = ' '.join((ROOT / 'docs/results.md').read_text().split())
    assert f'it is {min(medians)} to {max(medians)}' in text
