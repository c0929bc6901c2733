"""Read the curves that MMEngine's LoggerHook writes, whatever the host."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SetupError

# Other metrics that a host reports beside these stay out of the figure.
MAIN = 'accuracy/top1', 'acc/top1', 'coco/bbox_mAP', 'coco/segm_mAP'
NO_METRICS = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')

Points = list[tuple[int, float]]


@dataclass
class Curves:
    """Hold what was logged in a work folder, by 'step'.

    Attributes:
        folder (Path): The work folder.
        train (list[dict]): Scalars of the training; a step is an iteration.
        val (list[dict]): Metrics of the validation; a step is an epoch or,
            in a training without epochs, an iteration.
    """

    folder: Path
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)

    def reported(self) -> list[str]:
        """Return the names of all metrics, in the order of the log."""
        names = dict.fromkeys(name for record in self.val for name in record)
        return [name for name in names if name not in NO_METRICS]

    def metrics(self) -> list[str]:
        """Return the main metrics, or all metrics if no main one is there."""
        names = self.reported()
        return [name for name in MAIN if name in names] or names

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
        points = self.points(metric)
        if not points:
            return {}
        best = max(points, key=lambda p: (p[1] == p[1], p[1]))
        names = 'last_step', 'last', 'best_step', 'best'
        return dict(zip(names, (*points[-1], *best)))


def read_curves(folder: Path) -> Curves:
    """Read all sessions of a run; a later one replaces what it repeats.

    Args:
        folder (Path): A work folder, or the folder of one session.

    Raises:
        SetupError: The folder holds no log.
    """
    curves, log = Curves(folder), 'vis_data/scalars.json'
    # A session's folder bears the time at which the session started.
    for path in sorted(folder.glob(log)) or sorted(folder.glob(f'*/{log}')):
        train, val = [], []
        for line in path.read_text('utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # A killed run left half a line.
                print(f'note: {path}: skipped {line[:40]!r}', file=sys.stderr)
                continue
            # CGNLStatisticsHook logs a step without an iteration.
            is_train = 'iter' in record or any('cgnl/' in k for k in record)
            (train if is_train else val).append(record)
        start = min((r['step'] for r in train), default=float('inf'))
        epochs = [r['epoch'] for r in train if 'epoch' in r]
        end = min(epochs, default=start)
        curves.train = [r for r in curves.train if r['step'] < start] + train
        curves.val = [r for r in curves.val if r['step'] < end] + val
    if not curves.train and not curves.val:
        raise SetupError(
            f'no logged curves in {str(folder)!r}: expected <work folder>/'
            '<time>/vis_data/scalars.json, which tools/train.py writes'
        )
    return curves
