"""Draw the curves of one or several runs."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..errors import SetupError
from .curves import Curves, Points, read_curves

SEED = re.compile(r'[-_./]?seed[-_=]?\d+$')
STYLES = '-', '--', ':', '-.'


def plot_curves(
    folders: Sequence[Path], out: Path | None = None, seeds: bool = False
) -> Path:
    """Draw the losses and the main metrics of runs to a file.

    Args:
        folders (Sequence[Path]): The work folders.
        out (Path | None): The picture. Defaults to ``curves.png`` in the
            folder of a single run, else in the current folder.
        seeds (bool): Whether runs that differ by their seed alone become one
            curve, the mean with its range. Defaults to False.

    Returns:
        Path: The picture.

    Raises:
        SetupError: A folder holds no log, or the picture cannot be written.
    """
    if out is None:
        out = (folders[0] if len(folders) == 1 else Path()) / 'curves.png'
    figure = draw_runs(group_runs(folders, seeds))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as error:
        raise SetupError(f'--out {out} cannot be written: {error}') from error
    return out


def group_runs(
    folders: Sequence[Path], seeds: bool = False
) -> dict[str, list[Curves]]:
    """Read runs, and return those of each curve by its folder."""
    groups = {}
    for folder in folders:
        name = SEED.sub('', str(folder)) if seeds else str(folder)
        groups.setdefault(name, []).append(read_curves(folder))
    return groups


def draw_runs(groups: dict[str, list[Curves]]) -> Figure:
    """Draw the loss of each group of runs, and the metrics beside."""
    figure = Figure((11, 4.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    for index, (name, runs) in enumerate(groups.items()):
        colour, name = f'C{index % 10}', Path(name).name or name
        name = f'{name} ({len(runs)} seeds)' if len(runs) > 1 else name
        _draw(left, [run.logged('loss') for run in runs], name, colour)
        for metric, style in zip(runs[0].metrics(), itertools.cycle(STYLES)):
            lines = [run.points(metric) for run in runs]
            _draw(right, lines, f'{name}: {metric}', colour, 'o' + style)
    left.set(title='training', xlabel='iteration', ylabel='loss')
    # MMEngine's log counts the one or the other, as the training does.
    right.set(title='validation', xlabel='epoch or iteration')
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=8)
    return figure


def _draw(
    axes, lines: list[Points], label: str, colour: str, style: str = '-'
) -> None:
    """Draw the mean of curves and its range, at the steps of all of them.

    A run that was cut short ends the mean: a mean over fewer seeds would show
    a jump that no run made. A run without any point does not count.
    """
    curves = [dict(line) for line in lines if line]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    values = np.array([[curve[step] for curve in curves] for step in steps])
    if len(steps):
        ends = values.min(axis=1), values.max(axis=1)
        axes.fill_between(steps, *ends, color=colour, alpha=0.2, linewidth=0)
        mean = values.mean(axis=1)
        axes.plot(steps, mean, style, color=colour, label=label, markersize=3)
