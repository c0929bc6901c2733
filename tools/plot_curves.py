"""Plot loss and validation curves of one or several runs, and sum them up.

    python tools/plot_curves.py work_dirs/i3d_r18_cgnl_movingdigits
    python tools/plot_curves.py work_dirs/r18_digits work_dirs/r18_cgnl_digits

Reads what MMEngine's LoggerHook writes, so any host's runs will do. A run
that was resumed is one curve.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from _common import run

# shown first come, first served; what a host reports beside them stays out
MAIN_METRICS = (
    'accuracy/top1',
    'acc/top1',
    'coco/bbox_mAP',
    'coco/segm_mAP',
)
LINE_STYLES = ('-', '--', ':', '-.')
NO_METRICS = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')


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
        return [
            (record['step'], record[metric])
            for record in self.val
            if metric in record
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
    # only training logs carry the iteration
    train = [record for record in records if 'iter' in record]
    val = [record for record in records if 'iter' not in record]
    if train:
        first = train[0]
        curves.by_epoch = 'epoch' in first
        start = first['epoch' if curves.by_epoch else 'step']
        curves.train = [
            record
            for record in curves.train
            if record['step'] < first['step']
        ]
        curves.val = [
            record for record in curves.val if record['step'] < start
        ]
    curves.train += train
    curves.val += val


def plot(runs: list[Curves], metrics: list[str] | None, out: Path) -> None:
    """Draw the loss and the validation metrics side by side.

    Args:
        runs (list[Curves]): One colour each.
        metrics (list[str] | None): Names of metrics, one line style each.
            None: each run's main ones.
        out (Path): The PNG.
    """
    import matplotlib

    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.2), layout='constrained'
    )
    names = _names(runs)
    shown = []
    for index, (name, curves) in enumerate(zip(names, runs)):
        color = f'C{index % 10}'
        losses = [
            (record['step'], record['loss'])
            for record in curves.train
            if 'loss' in record
        ]
        if losses:
            left.plot(*zip(*losses), color=color, label=name, linewidth=1.2)
        for metric in metrics or curves.metrics():
            points = curves.points(metric)
            if not points:
                continue
            if metric not in shown:
                shown.append(metric)
            right.plot(
                *zip(*points),
                color=color,
                linestyle=LINE_STYLES[shown.index(metric) % 4],
                marker='o',
                markersize=3.5,
                label=f'{name}: {metric}',
            )
    left.set(xlabel='iteration', ylabel='loss', title='training')
    units = {'epoch' if curves.by_epoch else 'iteration' for curves in runs}
    right.set(
        xlabel=' or '.join(sorted(units)),
        ylabel=', '.join(shown) or 'no validation was logged',
        title='validation',
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=8)
    right.xaxis.get_major_locator().set_params(integer=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(out, dpi=120)
    plt.close(fig)


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


def require_metrics(runs: list[Curves], metrics: list[str]) -> None:
    """Raise SetupError for a metric that no run reports."""
    known = sorted({name for curves in runs for name in curves.reported()})
    for metric in metrics:
        if metric not in known:
            from cgnl_mm.errors import SetupError

            raise SetupError(
                f'--metric {metric}: no run reports it, they report {known}'
            )


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
        help="metrics to show; default: the host's main ones",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = [read_curves(folder) for folder in args.runs]
    require_metrics(runs, args.metric or [])
    out = args.out
    if out is None:
        out = runs[0].folder if len(runs) == 1 else Path()
        out = out / 'curves.png'
    plot(runs, args.metric, out)
    for name, curves in zip(_names(runs), runs):
        if len(runs) > 1:
            print(f'[{name}]')
        print(summary(curves, args.metric))
    print(f'curves:     {out}')


if __name__ == '__main__':
    run(main)
