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
from ..analysis.environment import commit_of
from ..errors import SetupError
from ..hosts import HOME
from .grid import Cell, Grid

FORMAT = 1  # of plan.json and record.json
ABSENT = '(absent)'


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
        train_args (list[str]): More options of tools/train.py. Defaults to
            none.
        gpus_per_run (int): Processes of the training. Defaults to 1.
    """

    def __init__(
        self, grid: Grid, cell: Cell, seed: int, cfg, root: Path,
        train_args: list[str] = (), gpus_per_run: int = 1,
    ) -> None:  # fmt: skip
        self.grid, self.cell, self.seed, self.cfg = grid, cell, seed, cfg
        self.name = f'{cell.name}/seed_{seed}'
        self.config = root / cell.name / f'{cell.name}.py'
        self.folder = root / self.name
        self.out = Path(f'{self.folder}.out')
        self.gpus_per_run = gpus_per_run
        self.plan = make_plan(cfg, train_args, gpus_per_run)
        self.by_epoch = 'max_epochs' in cfg.train_cfg
        unit = 'max_epochs' if self.by_epoch else 'max_iters'
        self.end = cfg.train_cfg[unit]

    def record(self) -> dict | None:
        """Return what :meth:`finish` wrote; None before.

        What the grid has asked for since then is read from the log.

        Raises:
            RunError: The run was made with another plan (the message names
                the differences), its record contradicts its log, or a metric
                is missing.
        """
        self._require_same_plan()
        record = read_json(self.folder / 'record.json')
        if record is None:
            return None
        curves = read_curves(self.folder)
        # A test's metrics come from checkpoints, which may be gone.
        measured = {} if self.grid.test else self._measure(curves)
        metrics = record['metrics'] = {**measured, **record['metrics']}
        where = 'its log or test. --redo trains it afresh'
        self._require_metrics(metrics, where)
        for name, found in measured.items():
            told = {key: metrics[name].get(key) for key in found}
            # As text, NaN equals NaN.
            if str(told) != str(found):
                raise RunError(
                    f'record.json says {name} = {told}, the log {found}. '
                    '--redo trains it afresh'
                )
        record['scalars'] = {**self._scalars(curves), **record['scalars']}
        return record

    def _require_same_plan(self) -> None:
        started = read_json(self.folder / 'plan.json')
        if started is None and self.folder.exists():
            if any(self.folder.iterdir()):
                raise RunError(f'{self.folder} holds something else')
        changed = differences(started, self.plan) if started else []
        # A run that failed before it had learnt anything starts anew.
        learnt = ('last_checkpoint', 'record.json')
        if changed and any((self.folder / name).is_file() for name in learnt):
            raise RunError(
                f'trained with another config: {"; ".join(changed)}. '
                '--redo trains it afresh and keeps the old folder'
            )

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

    def set_aside(self) -> Path:
        """Rename the folder that an earlier plan left; return its name."""
        names = (Path(f'{self.folder}.old{n}') for n in itertools.count(1))
        return self.folder.rename(next(p for p in names if not p.exists()))

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands that train and test, one after another."""
        started = read_json(self.folder / 'plan.json')
        if started is not None and differences(started, self.plan):
            self.set_aside()  # Its log would be taken for this run's.
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / 'plan.json', self.plan)
        # The commit is read now: the tool may outlive a change of the code.
        self.note_commit(commit_of(HOME))
        options = '--work-dir', self.folder, '--seed', self.seed, '--resume'
        yield self._command('train', *options, *self.plan['train_args'])
        if self.grid.test:
            for name, checkpoint in self._checkpoints().items():
                options = '--work-dir', self.folder / f'test_{name}'
                yield self._command('test', *options, files=[checkpoint])

    def _command(self, tool: str, *options, files: list = ()) -> list[str]:
        start, number = [sys.executable, HOME / f'tools/{tool}.py'], ()
        if self.gpus_per_run > 1:
            start = ['bash', HOME / f'tools/dist_{tool}.sh']
            number = (self.gpus_per_run,)
        parts = *start, self.config, *files, *number, *options
        return [str(part) for part in parts]

    def note_commit(self, commit: str) -> None:
        """Remember the code that a session runs; the plan does not ask for it.

        Args:
            commit (str): The commit; empty if there is none.
        """
        path = self.folder / 'commits.json'
        seen = read_json(path) or []
        if commit and commit not in seen:
            write_json(path, [*seen, commit])

    def start(self, command: list[str], devices: str | None):
        """Start one of :meth:`commands`; its output is appended to ``out``.

        Args:
            command (list[str]): The command.
            devices (str | None): CUDA_VISIBLE_DEVICES, or None.

        Returns:
            Popen: The process, which leads a process group.
        """
        env = dict(os.environ, PYTHON=sys.executable)
        if devices is not None:
            env['CUDA_VISIBLE_DEVICES'] = devices
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

    def progress(self) -> float:
        """Return the share of the training that is logged, 0 to 1."""
        try:
            curves = read_curves(self.folder)
        except (SetupError, OSError):
            return 0.0
        unit = 'epoch' if self.by_epoch else 'step'
        # The epoch that the training is in is not done.
        steps = [r[unit] - self.by_epoch for r in curves.train if unit in r]
        steps += [record['step'] for record in curves.val[-1:]]
        return min(1.0, max(steps, default=0) / self.end)

    def finish(self, peak_rss_mb: float, environment: dict) -> dict:
        """Check that the run is whole, and write its record.

        Args:
            peak_rss_mb (float): Largest resident set of its processes.
            environment (dict): Versions and hardware.

        Returns:
            dict: The record.

        Raises:
            RunError: The training stopped early, or lacks a metric.
        """
        curves = read_curves(self.folder)
        measured = self._measure(curves)
        reported = ', '.join(curves.reported()) or 'none'
        self._require_metrics(measured, f'the log: it has {reported}')
        last = curves.val[-1]['step']
        times = [(r['step'], r['time']) for r in curves.train if 'time' in r]
        if last != self.end or not times:
            raise RunError(
                f'the log has {len(times)} iterations and a validation at '
                f'{last} of {self.end}: the training ended early, or '
                'default_hooks.logger.interval is too high'
            )
        if self.grid.test:
            self._replace_by_test(measured)
        commits = read_json(self.folder / 'commits.json')
        told = dict(commit=' and '.join(commits)) if commits else {}
        gpu = max(r.get('memory', 0) for r in curves.train)
        record = dict(
            format=FORMAT,
            cell=self.cell.name,
            seed=self.seed,
            metrics=measured,
            scalars=self._scalars(curves),
            # The first iteration warms up, and others share the machine.
            train_seconds=statistics.median(t for _, t in times)
            * max(times)[0],
            memory_mb=gpu or round(peak_rss_mb),
            memory_of='GPU' if gpu else 'process',
            sessions=len(list(self.folder.glob('*/vis_data'))),
            environment={**environment, **told},
        )
        write_json(self.folder / 'record.json', record)
        return record

    def _measure(self, curves: Curves) -> dict:
        """Return the last and the best value of each metric, with steps."""
        found = {name: curves.ends(name) for name in self.grid.metrics}
        return {name: ends for name, ends in found.items() if ends}

    def _scalars(self, curves: Curves) -> dict:
        return {name: typical(curves, name) for name in self.grid.scalars}

    def _require_metrics(self, found: dict, where: str) -> None:
        for name in self.grid.metrics:
            if name not in found:
                raise RunError(f'no metric {name!r} in {where}')

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

    def _replace_by_test(self, metrics: dict) -> None:
        for which in ('last', 'best'):
            folder = self.folder / f'test_{which}'
            files = sorted(folder.glob('*/*.json'))
            results = read_json(files[-1]) if files else {}
            self._require_metrics(results, f'the results of {folder}')
            for name in self.grid.metrics:
                metrics[name][which] = results[name]


def make_plan(cfg, train_args: list[str], gpus_per_run: int = 1) -> dict:
    """Return all that the result of a run depends on, except for the seed."""
    # JSON lacks the classes and functions of a lazy config.
    text = json.dumps(
        cfg.to_dict(), default=lambda v: getattr(v, '__qualname__', repr(v))
    )
    plan = dict(format=FORMAT, config=json.loads(text))
    plan['train_args'] = list(train_args)
    if gpus_per_run > 1:
        plan['gpus_per_run'] = gpus_per_run
    return plan


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
            pair = old.get(key, ABSENT), new.get(key, ABSENT)
            found += differences(*pair, f'{path}.{key}')
        return found
    name = path.removeprefix('.').removeprefix('config.')
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
    """Return the value in a file; None if there is no such file.

    Raises:
        RunError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error


def write_json(path: Path, value) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(value, indent=1), encoding='utf-8')
    os.replace(partial, path)
