"""Train a cell with a seed, in a process of its own.

A run's folder ``<grid>/<cell>/seed_N`` is a work folder of tools/train.py.
``plan.json`` in it says what is being trained; ``record.json`` appears when
the run is finished.
"""

import fcntl
import fnmatch
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..analysis.curves import Curves, read_curves
from ..errors import SetupError
from ..files import whole_files
from ..hosts import HOME
from .grid import Cell, Grid


class RunError(SetupError):
    """Tell that a run failed, or that its files do not fit."""


class Run:
    """Train and measure a cell with a seed.

    Args:
        grid (Grid): The grid.
        cell (Cell): The cell.
        seed (int): The seed.
        cfg (Config): The cell's config, options applied.
        root (Path): The grid's folder.
    """

    def __init__(
        self, grid: Grid, cell: Cell, seed: int, cfg, root: Path
    ) -> None:
        self.grid, self.cell, self.seed, self.cfg = grid, cell, seed, cfg
        self.name = f'{cell.name}/seed_{seed}'
        self.config = root / cell.name / f'{cell.name}.py'
        self.folder = root / self.name
        self.out = Path(f'{self.folder}.out')
        self.plan = make_plan(cfg)

    def record(self) -> dict | None:
        """Return what a finished run measured; None before it is finished.

        Raises:
            RunError: The run was made with another plan (the message names
                the differences), it ended early, or a metric is missing.
        """
        started = read_json(self.folder / 'plan.json')
        if started is None and self.folder.is_dir():
            if any(self.folder.iterdir()):
                raise RunError(f'{self.folder} holds something else')
        changed = differences(started['config'], self.plan) if started else []
        learnt = ('last_checkpoint', 'record.json')
        if changed and any((self.folder / name).is_file() for name in learnt):
            raise RunError(
                f'trained with another config: {"; ".join(changed)}. To train '
                f'it afresh, move {self.folder} away'
            )
        kept = read_json(self.folder / 'record.json')
        return kept and self._measure(kept)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Take the run for this process and those it starts.

        Yields:
            bool: False if another process has the run.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # The trainings inherit the lock, unlike one of filelock: a training
        # that outlives a killed tool is not trained a second time beside it.
        with open(f'{self.folder}.lock', 'a') as self._lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except OSError:
                mine = False
            yield mine

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands that train and test, one after another."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cfg.dump(self.config)
        write_json(self.folder / 'plan.json', dict(config=self.plan))
        options = '--work-dir', self.folder, '--seed', self.seed, '--resume'
        yield self._command('train', *options)
        if self.grid.test:
            for name, checkpoint in self._checkpoints().items():
                options = '--work-dir', self.folder / f'test_{name}'
                yield self._command('test', checkpoint, *options)

    def _command(self, tool: str, *options) -> list[str]:
        tool = HOME / f'tools/{tool}.py'
        return [str(x) for x in (sys.executable, tool, self.config, *options)]

    def start(self, command: list[str], device: str | None):
        """Start one of :meth:`commands`; its output is appended to ``out``.

        Args:
            command (list[str]): The command.
            device (str | None): CUDA_VISIBLE_DEVICES; None: as it is.

        Returns:
            Popen: The process, which leads a process group.
        """
        env = dict(os.environ)
        if device is not None:
            env['CUDA_VISIBLE_DEVICES'] = device
        with open(self.out, 'a') as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                # Ctrl-C must not reach the group: the tool passes it on.
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )

    def last_error(self) -> str:
        """Return the line of the output that says most."""
        text = self.out.read_text(errors='replace')
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        told = [x for x in lines[-40:] if 'rror' in x.partition(':')[0]]
        line = (told or lines or ['no output'])[-1]
        return f'{line[:300]} (see {self.out})'

    def finish(self, peak_rss_mb: float, environment: dict) -> dict:
        """Check that the run is whole, and write what its log does not hold.

        Args:
            peak_rss_mb (float): Largest resident set of its processes.
            environment (dict): Versions and hardware.

        Returns:
            dict: The record.

        Raises:
            RunError: The training stopped early, or lacks a metric.
        """
        kept = dict(memory_mb=round(peak_rss_mb), environment=environment)
        record = self._measure(kept)
        write_json(self.folder / 'record.json', kept)
        return record

    def _measure(self, kept: dict) -> dict:
        """Add what the log and the tests hold to what was kept."""
        curves = read_curves(self.folder)
        wanted = self.grid.metrics
        metrics = {name: curves.ends(name) for name in wanted}
        reported = ', '.join(curves.reported()) or 'none'
        _require(wanted, curves.reported(), f'the log: it has {reported}')
        loop = self.cfg.train_cfg
        end = loop.get('max_epochs', loop.get('max_iters'))
        last = curves.val[-1]['step']
        times = [(r['step'], r['time']) for r in curves.train if 'time' in r]
        if last != end or not times:
            raise RunError(
                f'the log has {len(times)} iterations and a validation at '
                f'{last} of {end}: the training ended early, or '
                'default_hooks.logger.interval is too high'
            )
        for which in ('last', 'best') if self.grid.test else ():
            folder = self.folder / f'test_{which}'
            files = sorted(folder.glob('*/*.json'))
            results = read_json(files[-1]) if files else {}
            _require(wanted, results, f'the results of {folder}')
            for name in wanted:
                metrics[name][which] = results[name]
        gpu = max(r.get('memory', 0) for r in curves.train)
        return dict(
            metrics=metrics,
            scalars={n: typical(curves, n) for n in self.grid.scalars},
            # The first iteration warms up, and others share the machine.
            train_seconds=statistics.median(t for _, t in times)
            * max(times)[0],
            memory_mb=gpu or kept['memory_mb'],
            memory_of='GPU' if gpu else 'process',
            sessions=len(list(self.folder.glob('*/vis_data'))),
            environment=kept['environment'],
        )

    def _checkpoints(self) -> dict:
        """Return the last and the best checkpoint, for tools/test.py."""
        last = self.folder / 'last_checkpoint'
        found = self.folder.glob('best_*.pth')
        best = sorted(found, key=lambda path: path.stat().st_mtime)
        if not best or not last.is_file():
            raise RunError(
                f'no last_checkpoint or no best_*.pth in {self.folder}: a '
                'grid with test: true needs '
                'default_hooks.checkpoint.save_best'
            )
        return dict(last=last.read_text().strip(), best=best[-1])


def _require(metrics: list[str], found, where: str) -> None:
    for name in metrics:
        if name not in found:
            raise RunError(f'no metric {name!r} in {where}')


def make_plan(cfg) -> dict:
    """Return all that the result of a run depends on, except for the seed."""
    # JSON lacks the classes and functions of a lazy config.
    text = json.dumps(
        cfg.to_dict(), default=lambda v: getattr(v, '__qualname__', repr(v))
    )
    return json.loads(text)


def differences(old, new, path: str = '') -> list[str]:
    """Name what differs between two values of JSON.

    Returns:
        list[str]: 'optim_wrapper.optimizer.lr: 0.1, now 0.2', ...
    """
    if old == new:
        return []
    # Lists of different lengths differ as a whole.
    if type(old) is type(new) is list and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if type(old) is type(new) is dict:
        found = []
        for key in {**old, **new}:
            pair = (values.get(key, '(absent)') for values in (old, new))
            found += differences(*pair, f'{path}.{key}')
        return found
    name = path.removeprefix('.')
    return [f'{name}: {json.dumps(old):.60}, now {json.dumps(new):.60}']


def typical(curves: Curves, pattern: str) -> float | None:
    """Return the median of a scalar over the second half of the training.

    A ratio of gradients has outliers, which would move a mean.

    Args:
        curves (Curves): The curves of a run.
        pattern (str): A pattern of names; all values of all names count.
    """
    half = max((record['step'] for record in curves.train), default=0) / 2
    names = fnmatch.filter(curves.scalars(), pattern)
    points = itertools.chain(*(curves.logged(name) for name in names))
    late = [value for step, value in points if step > half]
    return statistics.median(late) if late else None


def read_json(path: Path):
    """Return the value in a file; None if there is no such file."""
    try:
        return json.loads(path.read_text('utf-8')) if path.is_file() else None
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error


def write_json(path: Path, value) -> None:
    """Write a file whole or not at all."""
    with whole_files(path.parent) as folder:
        (folder / path.name).write_text(json.dumps(value, indent=1), 'utf-8')
