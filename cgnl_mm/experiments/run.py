"""One run of a grid: a cell with a seed, trained in a process of its own.

A run's folder ``<grid>/<cell>/seed_N`` is a work folder of tools/train.py.
``plan.json`` in it says what is being trained; ``record.json`` appears when it
is finished.
"""

import fcntl
import fnmatch
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cgnl_mm.analysis.curves import Curves, read_curves
from cgnl_mm.errors import SetupError
from cgnl_mm.experiments.grid import Cell, Grid

TOOLS = Path(__file__).parent
FORMAT = 1  # of plan and record


class RunError(Exception):
    """A run that failed, or whose files are not what they should be."""


class Run:
    """A cell with a seed.

    Args:
        grid (Grid): The grid.
        cell (Cell): The cell.
        seed (int): The seed.
        cfg (Config): The cell's resolved config.
        root (Path): The grid's folder.
        train_args (list[str]): More options of tools/train.py.
        gpus_per_run (int): Processes of the training. Defaults to 1.
    """

    def __init__(
        self,
        grid: Grid,
        cell: Cell,
        seed: int,
        cfg,
        root: Path,
        train_args,
        gpus_per_run: int = 1,
    ) -> None:
        self.grid, self.cell, self.seed = grid, cell, seed
        self.name = f'{cell.name}/seed_{seed}'
        self.config = root / cell.name / f'{cell.name}.py'
        self.folder = root / cell.name / f'seed_{seed}'
        self.out = root / cell.name / f'seed_{seed}.out'
        self.gpus_per_run = gpus_per_run
        self.plan = make_plan(cfg, train_args, gpus_per_run)
        loop = cfg.train_cfg
        self.by_epoch = 'max_epochs' in loop
        self.end = loop.max_epochs if self.by_epoch else loop.max_iters
        self._lock = None

    def state(self) -> str:
        """'new', 'interrupted' or 'finished'.

        Raises:
            RunError: It was made with another plan (the message names what
                differs), or its record is not that of its log.
        """
        started = read_json(self.folder / 'plan.json')
        if started is None:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise RunError(f'{self.folder} holds something else')
            return 'new'
        changed = differences(started, self.plan)
        names = ('last_checkpoint', 'record.json')
        if changed and not any((self.folder / n).is_file() for n in names):
            return 'new'  # it failed before it had learnt anything
        if changed:
            raise RunError(
                f'trained with another config: {"; ".join(changed)}. '
                '--redo trains it afresh and keeps the old folder'
            )
        return 'interrupted' if self.record() is None else 'finished'

    def record(self) -> dict | None:
        """What :meth:`finish` wrote; None before.

        What the grid has asked for since then is read from the log.

        Raises:
            RunError: It is not that of its log, or the log lacks a metric.
        """
        record = read_json(self.folder / 'record.json')
        if record is None:
            return None
        metrics, scalars = record['metrics'], record['scalars']
        curves = self._curves()
        # a test's are made from checkpoints, which may be gone
        measured = {} if self.grid.test else self._measure(curves)
        for name in self.grid.metrics:
            if name not in metrics and name not in measured:
                where = 'test' if self.grid.test else 'log'
                raise RunError(
                    f'no metric {name!r} in its {where}. --redo trains it '
                    'afresh'
                )
            found = measured.get(name)
            if metrics.setdefault(name, found) != found and measured:
                raise RunError(
                    f'record.json says {name} = {metrics[name]}, the log '
                    f'{found}. --redo trains it afresh'
                )
        for pattern in self.grid.scalars:
            if pattern not in scalars:
                scalars[pattern] = typical(curves, pattern)
        return record

    def lock(self) -> bool:
        """Take the run for this process and those it starts.

        The lock lasts as long as any of them, so a training that outlives a
        killed tool is not trained a second time beside it.

        Returns:
            bool: False if another process has it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open(f'{self.folder}.lock', 'a')  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            return False
        return True

    def unlock(self) -> None:
        """Give the run back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def set_aside(self) -> Path | None:
        """Rename what an earlier plan left.

        Returns:
            Path | None: Its new name; None if there was nothing.
        """
        if not self.folder.exists():
            return None
        number = 1
        while (old := Path(f'{self.folder}.old{number}')).exists():
            number += 1
        self.folder.rename(old)
        return old

    def commands(self) -> Iterator[list[str]]:
        """What is to be run, one after another."""
        started = read_json(self.folder / 'plan.json')
        if started is not None and differences(started, self.plan):
            self.set_aside()  # its log would be taken for this run's
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / 'plan.json', self.plan)
        options = [
            '--work-dir', self.folder, '--seed', self.seed, '--resume',
            *self.plan['train_args'],
        ]  # fmt: skip
        yield _command('train', self.gpus_per_run, [self.config, *options])
        if not self.grid.test:
            return
        for name, checkpoint in self._checkpoints().items():
            yield _command(
                'test',
                self.gpus_per_run,
                [self.config, checkpoint]
                + ['--work-dir', self.folder / f'test_{name}'],
            )

    def note_commit(self, commit: str) -> None:
        """Remember what code a session runs; the plan does not ask for it.

        Args:
            commit (str): Of this checkout; empty if there is none.
        """
        path = self.folder / 'commits.json'
        seen = read_json(path) or []
        if commit and commit not in seen:
            write_json(path, [*seen, commit])

    def _with_commits(self, environment: dict) -> dict:
        """The environment, with the code of all sessions."""
        seen = read_json(self.folder / 'commits.json')
        if not seen:
            return environment
        return {**environment, 'commit': ' and '.join(seen)}

    def environment(self) -> dict:
        """Variables for its processes."""
        return {'PYTHON': sys.executable}

    def start(self, command: list[str], devices: str | None):
        """Start one of :meth:`commands`, its output appended to ``out``.

        Args:
            command (list[str]): The command.
            devices (str | None): CUDA_VISIBLE_DEVICES, or None.

        Returns:
            Popen: It leads a process group.
        """
        env = {**os.environ, **self.environment()}
        if devices is not None:
            env['CUDA_VISIBLE_DEVICES'] = devices
        with open(self.out, 'a') as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                # not of the terminal's group: Ctrl-C is ours to pass on
                start_new_session=True,
                pass_fds=() if self._lock is None else (self._lock.fileno(),),
            )

    def progress(self) -> float:
        """Share of the training that is logged, 0 to 1."""
        try:
            curves = self._curves()
        except (SetupError, OSError):
            return 0.0
        done = [record['step'] for record in curves.val[-1:]]
        if self.by_epoch:
            # of those the loop wrote; the one it is in is not done
            done += [r['epoch'] - 1 for r in curves.train if 'epoch' in r]
        else:
            done += [record['step'] for record in curves.train]
        return min(1.0, max(done, default=0) / self.end)

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
        curves = self._curves()
        measured = self._measure(curves)
        for name in self.grid.metrics:
            if name not in measured:
                raise RunError(
                    f'no metric {name!r} in the log: it has '
                    f'{", ".join(curves.reported()) or "none"}'
                )
        last = curves.val[-1]['step']
        if last != self.end:
            raise RunError(
                f'the last validation is at {last} of {self.end}: the '
                'training ended early'
            )
        gpu = max((r.get('memory', 0) for r in curves.train), default=0)
        steps = [r for r in curves.train if 'time' in r]
        if not steps:
            raise RunError(
                'no training iteration in the log: lower '
                'default_hooks.logger.interval'
            )
        record = dict(
            format=FORMAT,
            cell=self.cell.name,
            seed=self.seed,
            metrics=measured,
            scalars={
                pattern: typical(curves, pattern)
                for pattern in self.grid.scalars
            },
            # the first iteration warms up, and others share the machine
            train_seconds=statistics.median(r['time'] for r in steps)
            * max(r['step'] for r in steps),
            memory_mb=gpu or round(peak_rss_mb),
            memory_of='GPU' if gpu else 'process',
            sessions=len(list(self.folder.glob('*/vis_data'))),
            environment=self._with_commits(environment),
        )
        if self.grid.test:
            self._replace_by_test(record)
        write_json(self.folder / 'record.json', record)
        return record

    def _curves(self) -> Curves:
        return read_curves(self.folder)

    def _measure(self, curves: Curves) -> dict:
        """Last and best value of each metric, and their steps."""
        result = {}
        for name in self.grid.metrics:
            points = curves.points(name)
            if points:
                best = max(
                    points,
                    key=lambda p: -math.inf if math.isnan(p[1]) else p[1],
                )
                result[name] = dict(
                    last=points[-1][1],
                    last_step=points[-1][0],
                    best=best[1],
                    best_step=best[0],
                )
        return result

    def _checkpoints(self) -> dict:
        """The last and the best by validation, for tools/test.py."""
        last = self.folder / 'last_checkpoint'
        if not last.is_file():
            raise RunError(f'no {last}: nothing to test')
        best = sorted(
            self.folder.glob('best_*.pth'), key=lambda p: p.stat().st_mtime
        )
        if not best:
            raise RunError(
                f'no best_*.pth in {self.folder}: a grid with test: true '
                'needs default_hooks.checkpoint.save_best'
            )
        return dict(last=last.read_text().strip(), best=best[-1])

    def _replace_by_test(self, record: dict) -> None:
        for which in ('last', 'best'):
            folder = self.folder / f'test_{which}'
            files = sorted(folder.glob('*/*.json'))
            results = read_json(files[-1]) if files else None
            for name in self.grid.metrics:
                if not results or name not in results:
                    raise RunError(f'no {name!r} among the results: {folder}')
                record['metrics'][name][which] = results[name]


def commit_of(folder: Path) -> str:
    """Short hash of a checkout's commit.

    Args:
        folder (Path): Its root.

    Returns:
        str: With a '+' if files differ from it; empty for an installation,
        also one inside of somebody else's checkout.
    """
    if not (folder / '.git').exists():
        return ''
    git = ['git', '-C', str(folder)]
    try:
        commit, changed = (
            subprocess.run(
                [*git, *options], capture_output=True, text=True, check=True
            ).stdout.strip()
            for options in (
                ('rev-parse', '--short', 'HEAD'),
                ('status', '--porcelain'),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ''
    return commit + ('+' if changed else '')


def make_plan(cfg, train_args: list[str], gpus_per_run: int = 1) -> dict:
    """All that the result of a run depends on, but the seed."""
    config = json.loads(json.dumps(cfg.to_dict(), default=_as_text))
    plan = dict(format=FORMAT, config=config, train_args=list(train_args))
    if gpus_per_run > 1:  # several batches make one
        plan['gpus_per_run'] = gpus_per_run
    return plan


def _as_text(value) -> str:
    """Of what JSON lacks: a class or function of a lazy config."""
    return getattr(value, '__qualname__', None) or repr(value)


def differences(old, new, path: str = '') -> list[str]:
    """Name what differs between two values of JSON.

    Returns:
        list[str]: 'optim_wrapper.optimizer.lr: 0.1, now 0.2', ...
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in dict.fromkeys([*old, *new])
            for line in differences(
                old.get(key, '(absent)'),
                new.get(key, '(absent)'),
                f'{path}.{key}' if path else key,
            )
        ]
    if isinstance(old, list) and isinstance(new, list):
        if len(old) == len(new):
            return [
                line
                for index, (a, b) in enumerate(zip(old, new))
                for line in differences(a, b, f'{path}.{index}')
            ]
    if old == new:
        return []
    name = path.removeprefix('config.')
    return [f'{name}: {_short(old)}, now {_short(new)}']


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def typical(curves: Curves, pattern: str) -> float | None:
    """Median of a scalar over the second half of the training.

    A ratio of gradients has outliers, so no mean.

    Args:
        curves (Curves): A run's.
        pattern (str): Of its name; of several, all values count.
    """
    names = fnmatch.filter(curves.scalars(), pattern)
    points = [point for name in names for point in curves.logged(name)]
    if not points:
        return None
    half = max(record['step'] for record in curves.train) / 2
    late = [value for step, value in points if step > half]
    return statistics.median(late) if late else None


def _command(tool: str, gpus: int, options: list) -> list[str]:
    start = [sys.executable, TOOLS / f'{tool}.py', *options]
    if gpus > 1:
        config, *rest = options
        start = ['bash', TOOLS / f'dist_{tool}.sh', config]
        if tool == 'test':
            checkpoint, *rest = rest
            start.append(checkpoint)
        start += [gpus, *rest]
    return list(map(str, start))


def read_json(path: Path):
    """None if there is no such file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise RunError(f'{path} is damaged: {error}') from error


def write_json(path: Path, value) -> None:
    """Whole or not at all."""
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(value, indent=1), encoding='utf-8')
    os.replace(partial, path)
