"""Table, csv and statistics of a grid."""

import csv
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from cgnl_mm.errors import csv_field
from cgnl_mm.experiments.grid import Cell, Grid

CONFIDENCE = 0.95
WHICH = ('last', 'best')  # epoch
# of a record's environment
NO_VERSIONS = (
    'commit', 'CPU', 'GPU', 'runs at a time', 'GPUs per run', 'threads',
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """A cell minus its baseline, seed by seed.

    Attributes:
        mean (float): Mean over the seeds that both have.
        low (float): Lower end of the confidence interval; nan for one seed.
        high (float): Upper end.
        p (float): Of the two-sided paired t test; nan for one seed, and
            where all differences are the same.
        seeds (int): Number of pairs.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int


def paired_difference(ours: dict, theirs: dict) -> Difference | None:
    """Mean paired difference with its confidence interval.

    By Student's t. With five seeds a bootstrap draws from five numbers and
    its interval is too narrow; t allows for the few seeds, and asks for
    differences that are roughly normal.

    Args:
        ours (dict[int, float]): Metric of a cell by seed.
        theirs (dict[int, float]): That of its baseline.

    Returns:
        Difference | None: None without a common seed.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    gaps = [ours[seed] - theirs[seed] for seed in seeds]
    if not gaps:
        return None
    mean = statistics.fmean(gaps)
    nan = math.nan
    if len(gaps) == 1:
        return Difference(mean, nan, nan, nan, 1)
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    if error == 0:  # t knows no spread; equal gaps do not prove one
        return Difference(mean, nan, nan, 1.0 if mean == 0 else nan, len(gaps))
    test = stats.ttest_1samp(gaps, 0)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(
        mean, interval.low, interval.high, test.pvalue, len(gaps)
    )


def holm(values: dict) -> dict:
    """Adjust p values for their number (Holm's method); nan stays nan.

    Args:
        values (dict[str, float]): p by name.

    Returns:
        dict[str, float]: In the same order.
    """
    ranked = sorted(
        (name for name, p in values.items() if not math.isnan(p)),
        key=values.get,
    )
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ranked):
        largest = max(largest, min(1.0, values[name] * (len(ranked) - rank)))
        adjusted[name] = largest
    return {name: adjusted.get(name, math.nan) for name in values}


class Results:
    """The records of a grid, and what follows from them.

    Args:
        grid (Grid): The grid.
        records (dict): Record of each finished run by (cell, seed).
        failed (dict[str, str]): Reason by 'cell/seed_N'.
        costs (dict[str, dict]): 'params' and 'flops' by cell.
        command (str): What makes this table.
    """

    def __init__(self, grid: Grid, records, failed, costs, command) -> None:
        self.grid, self.records, self.failed = grid, records, failed
        self.costs, self.command = costs, command

    def values(self, cell: str, metric: str, which: str) -> dict:
        """Scaled metric of the finished runs of a cell, by seed."""
        return {
            seed: record['metrics'][metric][which] * self.grid.scale
            for (name, seed), record in self.records.items()
            if name == cell
        }

    def difference(self, cell: Cell, which: str) -> Difference | None:
        """Paired difference of the first metric to the cell's baseline."""
        if cell.baseline is None:
            return None
        metric = self.grid.metrics[0]
        return paired_difference(
            self.values(cell.name, metric, which),
            self.values(cell.baseline, metric, which),
        )

    def of_runs(self, cell: str, key: str) -> list[float]:
        """A number of each finished run of a cell."""
        return [
            record[key]
            for (name, _), record in self.records.items()
            if name == cell
        ]

    def scalar(self, cell: str, pattern: str) -> list[float]:
        """A logged scalar of each finished run that has it."""
        values = [s.get(pattern) for s in self.of_runs(cell, 'scalars')]
        return [value for value in values if value is not None]

    def write_csv(self, path: Path) -> None:
        """One line for each run, what the host logged, in full."""
        header = ['grid', 'cell', 'seed', 'state', 'config']
        for metric in self.grid.metrics:
            header += [
                f'{metric} {name}'
                for name in ('last', 'last_step', 'best', 'best_step')
            ]
        header += [
            *self.grid.scalars, 'parameters', 'flops', 'train_seconds',
            'memory_mb', 'memory_of', 'sessions', 'commit', 'versions',
            'reason',
        ]  # fmt: skip
        with open(path, 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(
                file, header, extrasaction='ignore', lineterminator='\n'
            )
            writer.writeheader()
            for cell in self.grid.cells.values():
                for seed in self.grid.seeds:
                    row = self._csv_row(cell, seed)
                    writer.writerow({k: csv_field(v) for k, v in row.items()})

    def _csv_row(self, cell: Cell, seed: int) -> dict:
        reason = self.failed.get(f'{cell.name}/seed_{seed}', '')
        cost = self.costs.get(cell.name, {})
        row = dict(
            grid=self.grid.name,
            cell=cell.name,
            seed=seed,
            state='failed' if reason else 'missing',
            config=cell.config.stem,
            parameters=cost.get('params'),
            flops=cost.get('flops'),
            reason=reason,
        )
        record = self.records.get((cell.name, seed))
        if record is None:
            return row
        row['state'] = 'finished'
        for metric, values in record['metrics'].items():
            row.update({f'{metric} {k}': v for k, v in values.items()})
        row.update(record['scalars'])
        for key in ('train_seconds', 'memory_mb', 'memory_of', 'sessions'):
            row[key] = record[key]
        row['commit'] = _commit(record)
        row['versions'] = ', '.join(
            f'{name} {value}'
            for name, value in record['environment'].items()
            if name not in NO_VERSIONS
        )
        return row

    def warnings(self) -> list[str]:
        """What makes the runs of a table less than comparable."""
        found = []
        for what, of in (
            ('commits', _commit),
            ('versions of torch', lambda r: r['environment'].get('torch', '')),
        ):
            counts = Counter(of(r) or 'unknown' for r in self.records.values())
            if len(counts) > 1:
                told = ', '.join(f'{n} of {k}' for k, n in counts.items())
                found.append(
                    f'the runs are of several {what}: {told}. The column '
                    'of results.csv tells which'
                )
        return found

    def as_markdown(self) -> str:
        """Table, how to read it, and where it comes from."""
        parts = [
            f'## {self.grid.title}',
            f'```bash\n{self.command}\n```',
            self._table(),
            self._legend(),
        ]
        if self.grid.note:
            parts.append(self.grid.note)
        missing = [
            f'- {cell}/seed_{seed}: '
            + self.failed.get(f'{cell}/seed_{seed}', 'not trained yet')
            for cell in self.grid.cells
            for seed in self.grid.seeds
            if (cell, seed) not in self.records
        ]
        if missing:
            parts.append('Missing:\n\n' + '\n'.join(missing))
        parts += [f'Warning: {text}.' for text in self.warnings()]
        parts.append(self._environment())
        return '\n\n'.join(parts) + '\n'

    def _table(self) -> str:
        first, *others = self.grid.metrics
        sources = list(
            dict.fromkeys(
                source
                for cell in self.grid.cells.values()
                for source in cell.published
            )
        )
        unit = f' ({self.grid.unit})' if self.grid.unit else ''
        header = ['cell', 'seeds']
        for metric in self.grid.metrics:
            header += [f'{metric}{unit}, {which}' for which in WHICH]
        header += [
            'difference, last', 'p (Holm)', 'difference, best',
            *self.grid.scalars, 'parameters', 'FLOPs', 'training (s)',
            f'memory (MB, {self._memory_of()})',
            *(f'published: {source}' for source in sources),
        ]  # fmt: skip
        adjusted = self.adjusted()
        rows = []
        for cell in self.grid.cells.values():
            number = len(self.values(cell.name, first, 'last'))
            row = [cell.name, str(number)]
            for metric in (first, *others):
                row += [
                    _spread(self.values(cell.name, metric, which).values())
                    for which in WHICH
                ]
            last, best = (self.difference(cell, which) for which in WHICH)
            cost = self.costs.get(cell.name, {})
            row += [
                _interval(last, number),
                _p_value(adjusted.get(cell.name, math.nan)),
                _interval(best, number),
                *(
                    _range(self.scalar(cell.name, pattern))
                    for pattern in self.grid.scalars
                ),
                _amount(cost.get('params')),
                _amount(cost.get('flops')),
                _median(self.of_runs(cell.name, 'train_seconds')),
                _median(self.of_runs(cell.name, 'memory_mb')),
                *(
                    _published(cell.published.get(source))
                    for source in sources
                ),
            ]
            rows.append(row)
        lines = [header, ['---'] * len(header), *rows]
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)

    def adjusted(self) -> dict:
        """Holm's p of each cell's difference, last epoch."""
        found = {
            name: self.difference(cell, 'last')
            for name, cell in self.grid.cells.items()
        }
        return holm({name: d.p for name, d in found.items() if d is not None})

    def _legend(self) -> str:
        of = {
            cell.baseline for cell in self.grid.cells.values() if cell.baseline
        }
        text = (
            'Mean ± standard deviation over the seeds, of the last '
            'validation and of the best one, which is chosen on the very '
            'data that it is reported on. Difference: of '
            f'{self.grid.metrics[0]} to {" or ".join(sorted(of)) or "none"} '
            'with the same seed (same initial weights, same order of the '
            f'data), [{CONFIDENCE:.0%} confidence interval by t]; p of the '
            'paired t test, adjusted for the number of cells (Holm). '
            'Training: median time of an iteration times their number, of '
            'the seeds the median; memory likewise. Two FLOPs are one '
            'multiply-add.'
        )
        if self.grid.scalars:
            text += (
                ' Logged scalars: median over the second half of a '
                'training; of the seeds the median [smallest, largest].'
            )
        if any(cell.published for cell in self.grid.cells.values()):
            text += ' Published numbers are those of others, not measured.'
        return text

    def _memory_of(self) -> str:
        kinds = sorted({r['memory_of'] for r in self.records.values()})
        return ' or '.join(kinds) or 'process'

    def _environment(self) -> str:
        """Each environment that a run was made in, once."""
        seen = {}
        for (cell, seed), record in self.records.items():
            text = ', '.join(
                f'{key} {value}'
                for key, value in record['environment'].items()
            )
            seen.setdefault(text, []).append(f'{cell}/seed_{seed}')
        if len(seen) <= 1:
            return 'Made with ' + (next(iter(seen), 'nothing yet')) + '.'
        return '\n'.join(
            f'- {len(runs)} runs ({runs[0]}, ...) with {text}'
            for text, runs in seen.items()
        )


def _spread(values) -> str:
    values = list(values)
    if not values:
        return '-'
    mean = f'{statistics.fmean(values):.2f}'
    return (
        mean
        if len(values) < 2
        else (f'{mean} ± {statistics.stdev(values):.2f}')
    )


def _interval(difference: Difference | None, runs: int) -> str:
    if difference is None:
        return '-'
    text = f'{difference.mean:+.2f}'
    if not math.isnan(difference.low):
        text += f' [{difference.low:+.2f}, {difference.high:+.2f}]'
    if difference.seeds < runs:
        text += f' ({difference.seeds} pairs)'
    return text


def _p_value(p: float) -> str:
    if math.isnan(p):
        return '-'
    return '< 0.001' if p < 0.001 else f'{p:.3f}'


def _range(values: list[float]) -> str:
    """Median and range: a ratio of gradients spans decades."""
    if not values:
        return '-'
    median = f'{statistics.median(values):.2g}'
    return (
        median
        if len(values) < 2
        else (f'{median} [{min(values):.2g}, {max(values):.2g}]')
    )


def _median(values: list[float]) -> str:
    """Of seconds: one run beside a busy neighbour must not be the mean."""
    return f'{statistics.median(values):.0f}' if values else '-'


def _commit(record: dict) -> str:
    """A '+' says that files differed from it; old records say it so."""
    commit = record['environment'].get('commit', '')
    return commit.replace(' with changes', '+')


def _amount(value) -> str:
    if value is None:
        return '-'
    for factor, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= factor:
            return f'{value / factor:.3f} {letter}'
    return str(value)


def _published(row: list | None) -> str:
    if not row or all(value is None for value in row):
        return '-'
    return ' / '.join('-' if v is None else f'{v:.2f}' for v in row)


def _baselines(grid: Grid) -> str:
    """What the differences of a grid are to."""
    of = {cell.baseline for cell in grid.cells.values() if cell.baseline}
    return next(iter(of)) if len(of) == 1 else "each cell's own baseline"


def plot(results: Results, path: Path) -> None:
    """Draw each run's metric, and the differences with their intervals.

    Args:
        results (Results): The results.
        path (Path): The PNG.
    """
    import matplotlib

    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt

    grid = results.grid
    names = list(grid.cells)
    fig, (left, right) = plt.subplots(
        1,
        2,
        figsize=(11, 1.2 + 0.45 * len(names)),
        layout='constrained',
        sharey=True,
    )
    for row, cell in enumerate(grid.cells.values()):
        for shift, which, color in zip((-0.15, 0.15), WHICH, ('C0', 'C1')):
            values = results.values(cell.name, grid.metrics[0], which)
            at = row + shift
            if values:
                left.plot(
                    list(values.values()), [at] * len(values), 'o',
                    color=color, alpha=0.5, markersize=4,
                )  # fmt: skip
                mean = statistics.fmean(values.values())
                left.plot(mean, at, '|', color=color, markersize=14)
            gap = results.difference(cell, which)
            if gap is not None:
                right.plot(gap.mean, at, 'o', color=color, markersize=4)
                if not math.isnan(gap.low):
                    right.hlines(at, gap.low, gap.high, color=color)
    unit = f' ({grid.unit})' if grid.unit else ''
    left.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel=f'{grid.metrics[0]}{unit}',
        title='each seed; the bar is the mean',
    )
    left.set_ylim(len(names) - 0.5, -0.5)  # those without a run, too
    right.axvline(0, color='gray', linewidth=0.8)
    right.set(
        xlabel=f'difference to {_baselines(grid)}{unit}',
        title=f'paired by seed, {CONFIDENCE:.0%} confidence interval',
    )
    for color, which in (('C0', 'last epoch'), ('C1', 'best epoch')):
        left.plot([], [], 'o', color=color, label=which)
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3, axis='x')
    fig.savefig(path, dpi=120)
    plt.close(fig)
