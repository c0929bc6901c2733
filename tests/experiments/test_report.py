"""Check the statistics of a report."""

import math
from pathlib import Path

import pandas as pd
import pytest

from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.experiments.report import Results, holm, paired_difference

ROOT = Path(__file__).parents[2]


def results_of(name):
    """Return the results that a committed csv file holds."""
    frame = pd.read_csv(ROOT / f'docs/results/{name}.csv')
    return Results(read_grid(ROOT / f'configs/grids/{name}.yaml'), frame)


def test_difference_pairs_by_seed():
    def difference(ours, theirs):
        return paired_difference(pd.Series(ours), pd.Series(theirs))

    found = difference({0: 1.0, 2: 5.0, 3: 9.0}, {3: 8.0, 2: 2.0, 7: 100.0})
    assert (found.mean, found.seeds) == (2.0, 2)
    alone = difference({1: 3.0}, {1: 1.0})
    assert alone.mean == 2 and math.isnan(alone.low) and math.isnan(alone.p)
    assert difference({0: 1.0}, {1: 1.0}) is None
    same = difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0})
    assert same.mean == 1 and math.isnan(same.low) and math.isnan(same.p)
    assert difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1
    lost = difference({0: 1.0, 1: math.nan}, {0: 1.0, 1: 2.0})
    assert math.isnan(lost.mean) and math.isnan(lost.p)


def test_holm_by_hand():
    found = holm(pd.Series(dict(a=0.01, b=0.04, c=math.nan, d=0.03, e=0.5)))
    assert math.isnan(found.pop('c'))
    # 4 x 0.01, 3 x 0.03, then at least that, then 0.5
    expected = dict(a=0.04, b=0.09, d=0.09, e=0.5)
    assert found.to_dict() == pytest.approx(expected)


def test_committed_csv_gives_the_lines_of_the_page():
    """The page shows the lines in two tables, under shorter headings."""
    page = (ROOT / 'docs/results.md').read_text('utf-8').replace('\xa0', ' ')
    names = 'relations relations_cue digits norms_digits movingdigits'
    for name in names.split():
        results = results_of(name)
        for cell in results.grid.cells.values():
            line = list(results.line(cell).values())
            if line[1] == '0':  # not run yet
                continue
            scalars = len(results.grid.scalars)
            # The page leaves the scalars of a cell without a block empty.
            first = [line[0], *line[2:7]]
            first += [x.strip('-') for x in line[7 : 7 + scalars]]
            shown = f'| {" | ".join(first)} |'
            second = f'| {" | ".join([line[0], *line[7 + scalars :]])} |'
            assert shown in page and second in page


def test_busy_neighbour_and_diverged_seed():
    results = results_of('digits')
    runs = results.runs['base']
    runs.train_seconds = [13.0, 160.0, 15.0, 14.0, 16.0]
    runs.loc[0, 'accuracy/top1 last'] = math.nan
    line = results.line(results.grid.cells['base'])
    assert line['training (s)'] == '15'
    assert line['accuracy/top1 (%), last'] == 'nan ± nan'
