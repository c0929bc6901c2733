"""Read the curves that MMEngine's LoggerHook writes, draw and sum them up.

Every host logs in this form. A run that was resumed is one curve.
"""

import fnmatch
import itertools
import json
import math
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..errors import SetupError

# Other metrics that a host reports beside these stay out of the figure.
MAIN_METRICS = (
    'accuracy/top1', 'acc/top1', 'coco/bbox_mAP', 'coco/segm_mAP',
)  # fmt: skip
NO_METRICS = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')
COLUMNS = 4  # panels in a row
LINEAR = 1e-6  # A logarithmic axis with both signs is linear around zero.
LINE_STYLES = ('-', '--', ':', '-.')
SEED = re.compile(r'[-_./]?seed[-_=]?\d+$')

Points = list[tuple[int, float]]


@dataclass
class Curves:
    """Hold what was logged in one work folder.

    Attributes:
        folder (Path): The work folder.
        train (list[dict]): Scalars by iteration ('step', 'loss', ...).
        val (list[dict]): Metrics by validation; 'step' is an epoch or, if
            not ``by_epoch``, an iteration.
        by_epoch (bool): Whether the steps in ``val`` are epochs.
    """

    folder: Path
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)
    by_epoch: bool = True

    def reported(self) -> list[str]:
        """Return the names of all metrics, in the order of the log."""
        names = dict.fromkeys(name for record in self.val for name in record)
        return [name for name in names if name not in NO_METRICS]

    def metrics(self) -> list[str]:
        """Return the main metrics, or all metrics if no main one is there."""
        names = self.reported()
        return [name for name in MAIN_METRICS if name in names] or names

    def scalars(self) -> set[str]:
        """Return the names of the scalars that the training logs."""
        names = {name for record in self.train for name in record}
        return names - {'step', 'epoch', 'iter'}

    def points(self, metric: str) -> Points:
        """Return (step, value) of each validation that reports a metric."""
        return [(r['step'], r[metric]) for r in self.val if metric in r]

    def logged(self, scalar: str) -> Points:
        """Return (iteration, value) of a scalar that the training logs."""
        return [(r['step'], r[scalar]) for r in self.train if scalar in r]

    def ends(self, metric: str) -> dict[str, float]:
        """Return 'last' and 'best' of a metric and their steps, if logged.

        The best is the first of the largest values; NaN is the smallest.
        """
        found = {}
        if points := self.points(metric):
            best = max(points, key=lambda p: (p[1] == p[1], p[1]))
            found['last_step'], found['last'] = points[-1]
            found['best_step'], found['best'] = best
        return found


def read_curves(folder: Path) -> Curves:
    """Read all sessions of a run; a later one replaces what it repeats.

    Args:
        folder (Path): A work folder, or the folder of one session.

    Returns:
        Curves: The records, in the order of the steps.

    Raises:
        SetupError: The folder holds no log.
    """
    log = 'vis_data/scalars.json'
    curves = Curves(folder)
    # A session's folder bears the time at which the session started.
    for path in sorted(folder.glob(log)) or sorted(folder.glob(f'*/{log}')):
        _add_session(curves, _read_lines(path))
    if not curves.train and not curves.val:
        raise SetupError(
            f'no logged curves in {str(folder)!r}: expected '
            '<work folder>/<time>/vis_data/scalars.json, which tools/train.py '
            'writes'
        )
    return curves


def _read_lines(log: Path) -> list[dict]:
    """Read one record a line; a killed run may have left half a line."""
    records = []
    for line in log.read_text('utf-8', errors='replace').splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f'note: {log}: skipped {line[:40]!r}', file=sys.stderr)
    return records


def _add_session(curves: Curves, records: list[dict]) -> None:
    """Append a session, and drop the older records that it trains again."""
    train = [record for record in records if _is_of_training(record)]
    if train:
        start = min(record['step'] for record in train)
        # Only records of the training loop tell the epoch.
        first = next((record for record in train if 'iter' in record), None)
        if first:
            curves.by_epoch = 'epoch' in first
        end = first['epoch'] if first and curves.by_epoch else start
        curves.train = [r for r in curves.train if r['step'] < start]
        curves.val = [r for r in curves.val if r['step'] < end]
    curves.train += train
    curves.val += [r for r in records if not _is_of_training(r)]


def _is_of_training(record: dict) -> bool:
    # CGNLStatisticsHook logs a step without an iteration.
    return 'iter' in record or any(key.startswith('cgnl/') for key in record)


def plot_curves(
    folders: Sequence[Path], out: Path | None = None,
    metrics: Sequence[str] = (), scalars: Sequence[str] = (),
    seeds: bool = False, log: bool = False,
) -> str:  # fmt: skip
    """Draw the curves of runs to a file, and sum the runs up.

    Args:
        folders (Sequence[Path]): The work folders.
        out (Path | None): The picture. Defaults to ``curves.png`` in the
            folder of a single run, else in the current folder.
        metrics (Sequence[str]): Metrics of the validation, or patterns of
            their names. Defaults to the main metrics of each run.
        scalars (Sequence[str]): Scalars of the training, or patterns of
            their names, one panel each. Defaults to the loss.
        seeds (bool): Whether runs that differ by their seed alone become one
            curve, the mean with a band of one standard deviation. Defaults
            to False.
        log (bool): Whether the training's axes are logarithmic. Defaults to
            False.

    Returns:
        str: How each run ended, and where the files are.

    Raises:
        SetupError: A folder holds no log, no run reports a name, or the
            picture cannot be written.
    """
    runs = [read_curves(folder) for folder in folders]
    reported = {name for run in runs for name in run.reported()}
    metrics = match_names(metrics, reported, '--metric')
    logged = {name for run in runs for name in run.scalars()}
    scalars = match_names(scalars, logged, '--scalar') or ['loss']
    if out is None:
        out = (folders[0] if len(runs) == 1 else Path()) / 'curves.png'
    figure = draw_runs(group_runs(runs, seeds), metrics, scalars, log)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as error:
        raise SetupError(f'--out {out} cannot be written: {error}') from error
    lines = []
    for name, (run,) in group_runs(runs).items():
        lines += [f'[{name}]'] if len(runs) > 1 else []
        lines += summarize(run, metrics)
    return '\n'.join([*lines, f'curves:     {out}'])


def match_names(
    names: Sequence[str], known: Collection[str], option: str
) -> list[str]:
    """Return the known names that names and patterns ('cgnl/*') stand for.

    Raises:
        SetupError: A name stands for none; the message tells the option.
    """
    found = []
    for name in names:
        # A name may hold brackets, which a pattern would interpret.
        hits = [name] if name in known else sorted(fnmatch.filter(known, name))
        if not hits:
            raise SetupError(
                f'{option} {name}: no run reports it. They report '
                f'{", ".join(sorted(known)) or "nothing"}'
            )
        found += hits
    return list(dict.fromkeys(found))


def group_runs(
    runs: Sequence[Curves], seeds: bool = False
) -> dict[str, list[Curves]]:
    """Return the runs by the name of their curve, in the order given.

    A name is that of the folder, with its parents where names coincide.

    Args:
        runs (Sequence[Curves]): The runs.
        seeds (bool): Whether runs that differ by their seed alone form one
            group. Defaults to False.
    """
    groups = {}
    for run in runs:
        name = SEED.sub('', str(run.folder)) if seeds else str(run.folder)
        groups.setdefault(name, []).append(run)
    names = [Path(name).name or name for name in groups]
    if len(set(names)) < len(names):
        names = list(groups)
    return {
        f'{name} ({len(group)} seeds)' if len(group) > 1 else name: group
        for name, group in zip(names, groups.values())
    }


def draw_runs(
    groups: dict[str, list[Curves]], metrics: Sequence[str] = (),
    scalars: Sequence[str] = ('loss',), log: bool = False,
) -> Figure:  # fmt: skip
    """Draw the training's scalars, one panel each, and the metrics beside.

    Args:
        groups (dict[str, list[Curves]]): What :func:`group_runs` returns;
            each group gets a colour.
        metrics (Sequence[str]): The metrics, one line style each. Defaults
            to the main ones of each group.
        scalars (Sequence[str]): The scalars. Defaults to the loss.
        log (bool): Whether the scalars' axes are logarithmic. Defaults to
            False.
    """
    panels = len(scalars) + 1
    columns = min(panels, COLUMNS)
    rows = math.ceil(panels / columns)
    figure = Figure((5.5 * columns, 4.2 * rows), layout='constrained')
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    *left, right = cells[:panels]
    styles = {}  # by metric, in the order of their appearance
    for index, (name, group) in enumerate(groups.items()):
        look = dict(color=f'C{index % 10}')
        for axes, scalar in zip(left, scalars):
            lines = [run.logged(scalar) for run in group]
            _draw(axes, lines, label=name, linewidth=1.2, **look)
        look.update(marker='o', markersize=3.5)
        for metric in metrics or group[0].metrics():
            style = LINE_STYLES[len(styles) % len(LINE_STYLES)]
            look['linestyle'] = styles.setdefault(metric, style)
            lines = [run.points(metric) for run in group]
            _draw(right, lines, label=f'{name}: {metric}', **look)
    for axes, scalar in zip(left, scalars):
        _finish(axes, 'training', 'iteration', scalar, log)
    units = {_unit(run) for run in itertools.chain(*groups.values())}
    metrics = ', '.join(styles) or 'no validation was logged'
    _finish(right, 'validation', ' or '.join(sorted(units)), metrics)
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in cells[panels:]:
        axes.axis('off')
    return figure


def _draw(axes, lines: list[Points], **look) -> None:
    curve = mean_and_deviation(lines)
    if curve.empty:
        return
    axes.plot(curve.index, curve['mean'], **look)
    if curve['std'].any():
        ends = (curve['mean'] + sign * curve['std'] for sign in (-1, 1))
        band = dict(color=look['color'], alpha=0.2, linewidth=0)
        axes.fill_between(curve.index, *ends, **band)


def _finish(axes, title, xlabel, ylabel, log: bool = False) -> None:
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    lines = axes.get_lines()
    if lines:
        axes.legend(fontsize=8)
    # Half of an axis that logarithms cannot show would be missing.
    if log and any(line.get_ydata().min() <= 0 for line in lines):
        axes.set_yscale('symlog', linthresh=LINEAR)
    elif log:
        axes.set_yscale('log')


def mean_and_deviation(lines: list[Points]) -> pd.DataFrame:
    """Return the 'mean' and the sample deviation 'std' of several curves.

    The steps, the index, are those that all curves have. A run that was cut
    short ends the mean: a mean over fewer seeds would show a jump that no run
    made.

    Args:
        lines (list): (step, value) pairs of each run. A run without any pair
            does not count, unless no run has one.

    Returns:
        DataFrame: A deviation of one run is 0.
    """
    curves = [pd.Series(dict(line), dtype=float) for line in lines]
    full = [curve for curve in curves if len(curve)] or curves
    table = pd.concat(full, axis=1, join='inner').sort_index()
    mean, std = table.mean(axis=1, skipna=False), table.std(axis=1)
    return pd.DataFrame(dict(mean=mean, std=std.fillna(0.0)))


def _unit(run: Curves) -> str:
    return 'epoch' if run.by_epoch else 'iteration'


def summarize(run: Curves, metrics: Sequence[str] = ()) -> list[str]:
    """Return a line for each metric, for the log and for the checkpoint.

    Args:
        run (Curves): The run.
        metrics (Sequence[str]): The metrics. Defaults to the main ones.
    """
    unit, lines = _unit(run), []
    for metric in metrics or run.metrics():
        ends = run.ends(metric)
        if ends:
            lines.append(
                f'validation {metric}: {ends["last"]:.4g} after {unit} '
                f'{ends["last_step"]} (best: {ends["best"]:.4g}, {unit} '
                f'{ends["best_step"]})'
            )
    lines = lines or ['validation: none logged']
    logs = sorted(run.folder.glob('*/*.log')) or run.folder.glob('*.log')
    lines += [f'log:        {path}' for path in sorted(logs)[-1:]]
    checkpoint = run.folder / 'last_checkpoint'
    if checkpoint.is_file():
        path = checkpoint.read_text(encoding='utf-8').strip()
        lines.append(f'checkpoint: {path}')
    return lines
