"""Report a grid: a csv file, a table with paired differences, a figure."""

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from scipy import stats

from ..analysis.environment import PACKAGES
from ..errors import csv_field
from .grid import Cell, Grid

CONFIDENCE = 0.95
WHICH = ('last', 'best')  # validation
KEPT = ('train_seconds', 'memory_mb', 'memory_of', 'sessions')
LEGEND = (
    'Mean ± standard deviation over the seeds, of the last validation and of '
    'the best one, which is chosen on the very data that it is reported on. '
    'Difference: of {metric} to {baselines} with the same seed (same initial '
    'weights, same order of the data), [{confidence:.0%} confidence interval '
    'by t]; p of the paired t test, adjusted for the number of cells (Holm). '
    'Training: median time of an iteration times their number, of the seeds '
    'the median; memory likewise. Two FLOPs are one multiply-add. Logged '
    'scalars: median over the second half of a training; of the seeds the '
    'median [smallest, largest]. Published numbers are those of others.'
)


class Difference(NamedTuple):
    """Describe a cell minus its baseline, seed by seed.

    Attributes:
        mean (float): Mean over the seeds that both have.
        low (float): Lower end of the confidence interval; nan for one seed.
        high (float): Upper end.
        p (float): p of the two-sided paired t test; nan for one seed, and
            where all differences are the same.
        seeds (int): Number of pairs.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int


def paired_difference(ours: pd.Series, theirs: pd.Series) -> Difference | None:
    """Return the mean paired difference with its confidence interval.

    The interval is Student's. With five seeds a bootstrap draws from five
    numbers and its interval is too narrow; t allows for the few seeds, and
    asks for differences that are roughly normal.

    Args:
        ours (Series): Metric of a cell by seed.
        theirs (Series): Metric of its baseline by seed.

    Returns:
        Difference | None: None without a common seed.
    """
    ours, theirs = ours.align(theirs, join='inner')
    gaps = ours - theirs
    if gaps.empty:
        return None
    mean, nan = gaps.mean(skipna=False), math.nan
    if gaps.nunique() == 1:
        # Equal gaps have no spread for t, and do not prove that there is none.
        p = 1.0 if mean == 0 and len(gaps) > 1 else nan
        return Difference(mean, nan, nan, p, len(gaps))
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(mean, *interval, test.pvalue, len(gaps))


def holm(values: pd.Series) -> pd.Series:
    """Adjust p values for their number by Holm's method; nan stays nan.

    Args:
        values (Series): p by name.

    Returns:
        Series: The adjusted values in the same order.
    """
    ranked = values.dropna().sort_values()
    adjusted = ranked * range(len(ranked), 0, -1)
    return adjusted.cummax().clip(upper=1.0).reindex(values.index)


def make_frame(
    grid: Grid, records: dict, failed: dict, costs: dict
) -> pd.DataFrame:
    """Return one row for each run: what the host logged, in full.

    Args:
        grid (Grid): The grid.
        records (dict): Record of each finished run by 'cell/seed_N'.
        failed (dict[str, str]): Reason by 'cell/seed_N'.
        costs (dict[str, dict]): 'params' and 'flops' by cell.
    """
    results = ('last', 'last_step', 'best', 'best_step')
    columns = [
        'grid', 'cell', 'seed', 'state', 'config',
        *(f'{metric} {name}' for metric in grid.metrics for name in results),
        *grid.scalars, 'parameters', 'flops', *KEPT, 'commit', 'versions',
        'reason',
    ]  # fmt: skip
    rows = []
    for cell, seed in itertools.product(grid.cells.values(), grid.seeds):
        name = f'{cell.name}/seed_{seed}'
        reason, cost = failed.get(name, ''), costs.get(cell.name, {})
        row = dict(grid=grid.name, cell=cell.name, seed=seed, reason=reason)
        row['state'] = 'failed' if reason else 'missing'
        row['config'] = cell.config.stem
        row['parameters'], row['flops'] = cost.get('params'), cost.get('flops')
        if name in records:
            row.update(_measured(records[name]), state='finished')
        rows.append(row)
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _measured(record: dict) -> dict:
    row = {key: record[key] for key in KEPT}
    for metric, values in record['metrics'].items():
        row.update({f'{metric} {name}': v for name, v in values.items()})
    facts = record['environment']
    known = (n for n in ('cgnl_mm', 'Python', *PACKAGES) if n in facts)
    row['versions'] = ', '.join(f'{name} {facts[name]}' for name in known)
    row['commit'] = facts.get('commit', '')
    return {**row, **record['scalars']}


class Results:
    """Compare the runs of a grid.

    Args:
        grid (Grid): The grid.
        frame (DataFrame): What :func:`make_frame` returns, or results.csv.
    """

    def __init__(self, grid: Grid, frame: pd.DataFrame) -> None:
        self.grid, self.frame = grid, frame
        done = frame[frame.state == 'finished'].set_index('seed')
        groups = {name: done[done.cell == name] for name in grid.cells}
        self.runs = {name: g.infer_objects() for name, g in groups.items()}
        self.differences = {}
        for cell in grid.cells.values():
            for which in WHICH if cell.baseline else ():
                names = cell.name, cell.baseline
                pair = (self.values(name, which) for name in names)
                self.differences[cell.name, which] = paired_difference(*pair)
        last = {
            name: found.p
            for (name, which), found in self.differences.items()
            if which == 'last' and found
        }
        self.p = holm(pd.Series(last, dtype=float))
        self.unit = f' ({grid.unit})' if grid.unit else ''

    def values(
        self, cell: str, which: str, metric: str | None = None
    ) -> pd.Series:
        """Return a scaled metric of a cell's finished runs, by seed.

        Args:
            cell (str): The cell.
            which (str): Which validation, 'last' or 'best'.
            metric (str | None): The metric. Defaults to the first.
        """
        values = self.runs[cell][f'{metric or self.grid.metrics[0]} {which}']
        return values.astype(float) * self.grid.scale

    def line(self, cell: Cell) -> dict:
        """Return a line of the table, a text for each column."""
        runs, grid = self.runs[cell.name], self.grid
        line = {'cell': cell.name, 'seeds': str(len(runs))}
        for metric, which in itertools.product(grid.metrics, WHICH):
            values = self.values(cell.name, which, metric)
            text = _describe(values, '{mean:.2f}', ' ± {std:.2f}')
            line[f'{metric}{self.unit}, {which}'] = text
        last, best = (self.differences.get((cell.name, w)) for w in WHICH)
        line['difference, last'] = _interval(last, len(runs))
        line['p (Holm)'] = _p_value(self.p.get(cell.name, math.nan))
        line['difference, best'] = _interval(best, len(runs))
        for scalar in grid.scalars:
            # A ratio of gradients spans decades.
            forms = '{median:.2g}', ' [{min:.2g}, {max:.2g}]'
            line[scalar] = _describe(runs[scalar].dropna(), *forms)
        cost = self.frame[self.frame.cell == cell.name].iloc[0]
        line['parameters'] = _amount(cost.parameters)
        line['FLOPs'] = _amount(cost.flops)
        # One run beside a busy neighbour would move a mean.
        line['training (s)'] = _describe(runs.train_seconds, '{median:.0f}')
        kinds = sorted(self.frame.memory_of.dropna().unique()) or ['process']
        memory = f'memory (MB, {" or ".join(kinds)})'
        line[memory] = _describe(runs.memory_mb, '{median:.0f}')
        sources = (each.published for each in grid.cells.values())
        for source in itertools.chain(*sources):
            row = cell.published.get(source, [])
            numbers = ('-' if v is None else f'{v:.2f}' for v in row)
            line[f'published: {source}'] = ' / '.join(numbers) or '-'
        return line

    def legend(self) -> str:
        """Return how the table is to be read."""
        cells = self.grid.cells.values()
        baselines = sorted({cell.baseline for cell in cells} - {None})
        return LEGEND.format(
            metric=self.grid.metrics[0],
            baselines=' or '.join(baselines) or 'none',
            confidence=CONFIDENCE,
        )

    def draw(self) -> Figure:
        """Draw each run's metric, and the differences with intervals."""
        names = list(self.grid.cells)
        figure = Figure((11, 1.2 + 0.45 * len(names)), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True)
        for shift, which, color in zip((-0.15, 0.15), WHICH, ('C0', 'C1')):
            for row, name in enumerate(names):
                values, at = self.values(name, which), row + shift
                dots = dict(alpha=0.5, label=None if row else which)
                left.plot(values, [at] * len(values), f'{color}o', **dots)
                gap = self.differences.get((name, which))
                if gap is not None:
                    ends = gap.low, gap.mean, gap.high
                    right.plot(ends, [at] * 3, f'{color}.-')
        left.legend(fontsize=8)
        left.set(
            yticks=range(len(names)),
            yticklabels=names,
            xlabel=f'{self.grid.metrics[0]}{self.unit}',
            title='each seed',
            # Cells without a run have their line, too.
            ylim=(len(names) - 0.5, -0.5),
        )
        right.axvline(0, color='gray', linewidth=0.8)
        right.set(
            xlabel=f"difference to the cell's baseline{self.unit}",
            title=f'paired by seed, {CONFIDENCE:.0%} confidence interval',
        )
        for axes in (left, right):
            axes.grid(alpha=0.3, axis='x')
        return figure


def write_report(
    grid: Grid, records: dict, failed: dict, costs: dict, out: Path
) -> None:
    """Write results.csv, results.md and results.png.

    Args:
        grid, records, failed, costs: See :func:`make_frame`.
        out (Path): The folder.
    """
    frame = make_frame(grid, records, failed, costs)
    # the reason of a failed run holds the text of a stranger
    safe = frame.assign(reason=frame.reason.map(csv_field))
    safe.to_csv(out / 'results.csv', index=False)
    results = Results(grid, frame)
    results.draw().savefig(out / 'results.png', dpi=120)
    lines = pd.DataFrame(map(results.line, grid.cells.values()))
    parts = [
        f'## {grid.title}',
        f'```bash\npython tools/reproduce.py {grid.file}\n```',
        lines.to_markdown(index=False, disable_numparse=True),
        results.legend(),
        grid.note.strip(),
    ]
    missing = [
        f'- {run.cell}/seed_{run.seed}: {run.reason or "not trained yet"}'
        for run in frame[frame.state != 'finished'].itertuples()
    ]
    if missing:
        parts.append('Missing:\n\n' + '\n'.join(missing))
    parts.append(_made_with(records))
    markdown = '\n\n'.join(filter(None, parts)) + '\n'
    (out / 'results.md').write_text(markdown, encoding='utf-8')


def _made_with(records: dict) -> str:
    """Name each environment that runs were made in, once."""
    seen = {}
    for name, record in records.items():
        facts = (f'{key} {v}' for key, v in record['environment'].items())
        seen.setdefault(', '.join(facts), []).append(name)
    return '\n'.join(
        f'- {len(runs)} runs ({runs[0]}, ...) with {text}'
        for text, runs in seen.items()
    )


def _describe(values: pd.Series, one: str, more: str = '') -> str:
    """Format statistics of runs; ``more`` holds those of several runs."""
    if values.empty:
        return '-'
    names = ('mean', 'std', 'median', 'min', 'max')
    # A seed that diverged must not be left out.
    found = {n: getattr(values, n)(skipna=False) for n in names}
    return (one + more if len(values) > 1 else one).format(**found)


def _interval(difference: Difference | None, runs: int) -> str:
    if difference is None:
        return '-'
    text = f'{difference.mean:+.2f}'
    if not math.isnan(difference.low):
        text += f' [{difference.low:+.2f}, {difference.high:+.2f}]'
    return text + (
        f' ({difference.seeds} pairs)' if difference.seeds < runs else ''
    )


def _p_value(p: float) -> str:
    text = '< 0.001' if p < 0.001 else f'{p:.3f}'
    return '-' if math.isnan(p) else text


def _amount(value: float) -> str:
    return '-' if pd.isna(value) else EngFormatter(places=3)(value)
