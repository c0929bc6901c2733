"""Plot loss and validation curves of one or several runs, and sum them up.

    python tools/plot_curves.py work_dirs/i3d_r18_cgnl_movingdigits
    python tools/plot_curves.py work_dirs/r18_digits work_dirs/r18_cgnl_digits
    python tools/plot_curves.py work_dirs/r18_*_seed? --seeds \\
        --scalar loss grad_norm
    python tools/plot_curves.py RUN --scalar 'cgnl/*/gradient_share_*' --log

With ``--seeds``, runs whose folders differ by their seed alone
(``r18_digits_seed0``, ``r18_digits/seed_1``) become one curve: the mean, and
a band of one standard deviation.

Reads what MMEngine's LoggerHook writes, so any host's runs will do. A run
that was resumed is one curve.
"""

import argparse
import fnmatch
import json
import math
import re
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cgnl_mm.cli import run

# shown first come, first served; what a host reports beside them stays out
MAIN_METRICS = (
    'accuracy/top1',
    'acc/top1',
    'coco/bbox_mAP',
    'coco/segm_mAP',
)
COLUMNS = 4  # panels in a row
LINEAR = 1e-6  # around zero, where a logarithmic axis has both signs
LINE_STYLES = ('-', '--', ':', '-.')
NO_METRICS = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')
SEED = re.compile(r'[-_./]?seed[-_=]?\d+$')


@dataclass
class Curves:
    """What was logged in one work folder.

    Attributes:
        folder (Path): The work folder.
        train (list[dict]): Scalars by iteration ('step', 'loss', ...).
        val (list[dict]): Metrics by validation; 'step' is an epoch or, if
            not ``by_epoch``, an iteration.
        by_epoch (bool): The unit of the steps in ``val``.
    """

    folder: Path
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)
    by_epoch: bool = True

    def reported(self) -> list[str]:
        """Names of all metrics, in the order of the log."""
        names = dict.fromkeys(name for record in self.val for name in record)
        return [name for name in names if name not in NO_METRICS]

    def metrics(self) -> list[str]:
        """Names of the main metrics, or of all if none of those is there."""
        names = self.reported()
        return [name for name in MAIN_METRICS if name in names] or names

    def points(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) of each validation that reports ``metric``."""
        return _points(self.val, metric)

    def logged(self, scalar: str) -> list[tuple[int, float]]:
        """(iteration, value) of a scalar that training logs."""
        return _points(self.train, scalar)

    def scalars(self) -> set[str]:
        """Names of all that training logs."""
        names = {name for record in self.train for name in record}
        return names - {'step', 'epoch', 'iter'}


def _points(records: list[dict], name: str) -> list[tuple[int, float]]:
    return [
        (record['step'], record[name]) for record in records if name in record
    ]


def read_curves(folder: Path) -> Curves:
    """Read all sessions of a run, later ones replacing what they repeat.

    Args:
        folder (Path): A work folder, or one session's folder in it.

    Returns:
        Curves: In the order of the steps.

    Raises:
        SetupError: No log is there.
    """
    if (folder / 'vis_data').is_dir():
        logs = [folder / 'vis_data' / 'scalars.json']
    else:
        # session folders are named by their start time
        logs = sorted(folder.glob('*/vis_data/scalars.json'))
    curves = Curves(folder)
    for log in logs:
        if log.is_file():
            _add_session(curves, _read_lines(log))
    if not curves.train and not curves.val:
        from cgnl_mm.errors import SetupError  # imports torch: only here

        raise SetupError(
            f'no logged curves in {str(folder)!r}: expected '
            '<work folder>/<time>/vis_data/scalars.json, which tools/train.py '
            'writes'
        )
    return curves


def _read_lines(log: Path) -> list[dict]:
    """One record per line; a killed run may leave half a line."""
    records = []
    for line in log.read_text(encoding='utf-8').splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f'note: {log}: skipped {line[:40]!r}', file=sys.stderr)
    return records


def _add_session(curves: Curves, records: list[dict]) -> None:
    """Append a session, dropping older records that it trains again."""
    train = [record for record in records if _is_of_training(record)]
    val = [record for record in records if not _is_of_training(record)]
    if train:
        start = min(record['step'] for record in train)
        curves.train = [
            record for record in curves.train if record['step'] < start
        ]
        # those of the loop also tell the epoch
        first = next((record for record in train if 'iter' in record), {})
        curves.by_epoch = 'epoch' in first if first else curves.by_epoch
        if curves.by_epoch:
            start = first.get('epoch', start)
        curves.val = [
            record for record in curves.val if record['step'] < start
        ]
    curves.train += train
    curves.val += val


def _is_of_training(record: dict) -> bool:
    """Whether the loop wrote it, or CGNLStatisticsHook did."""
    return 'iter' in record or any(key.startswith('cgnl/') for key in record)


def plot(
    runs: list[Curves],
    metrics: list[str] | None,
    out: Path,
    scalars: list[str] | None = None,
    seeds: bool = False,
    log: bool = False,
) -> None:
    """Draw training scalars and validation metrics side by side.

    Args:
        runs (list[Curves]): One colour each.
        metrics (list[str] | None): Names of metrics, one line style each.
            None: each run's main ones.
        out (Path): The PNG.
        scalars (list[str] | None): What training logs, one panel each.
            Defaults to the loss.
        log (bool): Whether the axes of these are logarithmic, for what spans
            decades. Defaults to False.
        seeds (bool): Whether runs that differ by their seed alone are one
            curve. Defaults to False.
    """
    import matplotlib

    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt

    scalars = scalars or ['loss']
    panels = len(scalars) + 1
    columns = min(panels, COLUMNS)
    rows = math.ceil(panels / columns)
    fig, cells = plt.subplots(
        rows,
        columns,
        figsize=(5.5 * columns, 4.2 * rows),
        layout='constrained',
        squeeze=False,
    )
    axes = list(cells.flat[:panels])
    for empty in cells.flat[panels:]:
        empty.axis('off')
    *left, right = axes
    shown = []
    for index, (name, group) in enumerate(grouped(runs, seeds).items()):
        color = f'C{index % 10}'
        for panel, scalar in zip(left, scalars):
            draw(
                panel,
                [curves.logged(scalar) for curves in group],
                color=color,
                label=name,
                linewidth=1.2,
            )
        for metric in metrics or group[0].metrics():
            lines = [curves.points(metric) for curves in group]
            if not any(lines):
                continue
            if metric not in shown:
                shown.append(metric)
            draw(
                right,
                lines,
                color=color,
                linestyle=LINE_STYLES[shown.index(metric) % 4],
                marker='o',
                markersize=3.5,
                label=f'{name}: {metric}',
            )
    for panel, scalar in zip(left, scalars):
        panel.set(xlabel='iteration', ylabel=scalar, title='training')
        if log:
            panel.set_yscale('log')
            # half of an axis that logarithms cannot show is no axis
            if any(v <= 0 for run in runs for _, v in run.logged(scalar)):
                panel.set_yscale('symlog', linthresh=LINEAR)
    units = {'epoch' if curves.by_epoch else 'iteration' for curves in runs}
    right.set(
        xlabel=' or '.join(sorted(units)),
        ylabel=', '.join(shown) or 'no validation was logged',
        title='validation',
    )
    for panel in axes:
        panel.grid(alpha=0.3)
        if panel.get_lines():
            panel.legend(fontsize=8)
    right.xaxis.get_major_locator().set_params(integer=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(out, dpi=120)
    plt.close(fig)


def draw(axes, lines: list[list[tuple[int, float]]], **style) -> None:
    """Draw one line, or the mean of several with a band.

    Args:
        axes (Axes): Where.
        lines (list): (step, value) pairs of each run. A run without any does
            not count.
        **style: Of matplotlib's ``plot``.
    """
    steps, means, deviations = mean_and_deviation(lines)
    if not steps:
        return
    axes.plot(steps, means, **style)
    if any(deviations):
        axes.fill_between(
            steps,
            [mean - std for mean, std in zip(means, deviations)],
            [mean + std for mean, std in zip(means, deviations)],
            color=style['color'],
            alpha=0.2,
            linewidth=0,
        )


def mean_and_deviation(
    lines: list[list[tuple[int, float]]],
) -> tuple[list[int], list[float], list[float]]:
    """Mean and sample standard deviation at the steps that all runs have.

    A run that was cut short ends the curve: a mean over fewer seeds from
    there on would show a jump that no run made.

    Args:
        lines (list): (step, value) pairs of each run. A run without any does
            not count.

    Returns:
        tuple[list, list, list]: Steps, means, deviations (0 for one run).
    """
    values = [dict(line) for line in lines if line]
    if not values:
        return [], [], []
    common = set(values[0]).intersection(*values[1:])
    steps = sorted(common)
    columns = [[run[step] for run in values] for step in steps]
    means = [statistics.fmean(column) for column in columns]
    if len(values) == 1:
        return steps, means, [0.0] * len(steps)
    return steps, means, [statistics.stdev(column) for column in columns]


def grouped(runs: list[Curves], seeds: bool) -> dict[str, list[Curves]]:
    """Runs by the name of their curve, in the order given.

    Args:
        runs (list[Curves]): The runs.
        seeds (bool): Whether those that differ by their seed alone go
            together.
    """
    if not seeds:
        return {name: [curves] for name, curves in zip(_names(runs), runs)}
    groups = {}
    for curves in runs:
        name = SEED.sub('', str(curves.folder))
        groups.setdefault(name, []).append(curves)
    short = [Path(name).name for name in groups]
    if len(set(short)) < len(short):
        short = list(groups)
    return {
        f'{name} ({len(group)} seeds)' if len(group) > 1 else name: group
        for name, group in zip(short, groups.values())
    }


def _names(runs: list[Curves]) -> list[str]:
    """The folders' names, with their parents' where those coincide."""
    names = [curves.folder.name for curves in runs]
    if len(set(names)) < len(names):
        names = [str(curves.folder) for curves in runs]
    return names


def summary(curves: Curves, metrics: list[str] | None) -> str:
    """Say how a run ended and where its files are.

    Args:
        curves (Curves): The run.
        metrics (list[str] | None): As in :func:`plot`.

    Returns:
        str: One line per metric, then log and checkpoint.
    """
    unit = 'epoch' if curves.by_epoch else 'iteration'
    lines = []
    for metric in metrics or curves.metrics():
        points = curves.points(metric)
        if points:
            at, last = points[-1]
            best_at, best = max(points, key=lambda point: point[1])
            lines.append(
                f'validation {metric}: {last:.4g} after {unit} {at} '
                f'(best: {best:.4g}, {unit} {best_at})'
            )
    if not lines:
        lines.append('validation: none logged')
    logs = sorted(curves.folder.glob('*/*.log'))
    if not logs:
        logs = sorted(curves.folder.glob('*.log'))
    if logs:
        lines.append(f'log:        {logs[-1]}')
    last_checkpoint = curves.folder / 'last_checkpoint'
    if last_checkpoint.is_file():
        path = last_checkpoint.read_text(encoding='utf-8').strip()
        lines.append(f'checkpoint: {path}')
    return '\n'.join(lines)


def matching(names: list[str], known: set[str], option: str) -> list[str]:
    """Names that runs report, for names and patterns ('cgnl/*').

    Args:
        names (list[str]): As given.
        known (set[str]): What the runs report.
        option (str): Where they were given.

    Raises:
        SetupError: No run reports one of them.
    """
    found = {}
    for name in names:
        # a name may hold brackets
        hits = [name] if name in known else sorted(fnmatch.filter(known, name))
        if not hits:
            from cgnl_mm.errors import SetupError

            raise SetupError(
                f'{option} {name}: no run reports it. They report '
                f'{", ".join(sorted(known)) or "nothing"}'
            )
        found.update(dict.fromkeys(hits))
    return list(found)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot loss and validation curves, and sum the runs up'
    )
    parser.add_argument(
        'runs', nargs='+', type=Path, metavar='RUN_DIR', help='work folders'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help="the PNG; default: curves.png in the run's folder, or here "
        'for several runs',
    )
    parser.add_argument(
        '--metric',
        nargs='+',
        metavar='NAME',
        help='metrics to show, or patterns of their names; default: the '
        "host's main ones",
    )
    parser.add_argument(
        '--scalar',
        nargs='+',
        metavar='NAME',
        help="what training logs, or patterns ('cgnl/*'), one panel each; "
        'default: loss',
    )
    parser.add_argument(
        '--log',
        action='store_true',
        help='logarithmic axes for what training logs',
    )
    parser.add_argument(
        '--seeds',
        action='store_true',
        help='runs that differ by their seed alone are one curve',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = [read_curves(folder) for folder in args.runs]
    reported = {name for curves in runs for name in curves.reported()}
    logged = {name for curves in runs for name in curves.scalars()}
    args.metric = matching(args.metric or [], reported, '--metric') or None
    args.scalar = matching(args.scalar or [], logged, '--scalar')
    out = args.out
    if out is None:
        out = runs[0].folder if len(runs) == 1 else Path()
        out = out / 'curves.png'
    plot(runs, args.metric, out, args.scalar, args.seeds, args.log)
    for name, curves in zip(_names(runs), runs):
        if len(runs) > 1:
            print(f'[{name}]')
        print(summary(curves, args.metric))
    print(f'curves:     {out}')


if __name__ == '__main__':
    run(main)
