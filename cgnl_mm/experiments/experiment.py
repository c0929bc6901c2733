"""Train what is missing of a grid, and report all that is there."""

import os
import re
from pathlib import Path

from rich.console import Console

from ..analysis.environment import environment
from ..errors import SetupError
from .costs import find_costs
from .grid import Grid, apply_options
from .pool import Pool
from .report import find_warnings, write_report
from .run import Run

# Options of tools/train.py that this tool sets.
OWN_OPTIONS = ('--work-dir', '--seed', '--resume', '--cfg-options')


class Experiment:
    """Hold the runs of a grid.

    Args:
        grid (Grid): The grid.
        configs (dict[str, Config]): The config of each cell. The options of
            the cell are merged into it.
        root (Path): The grid's folder.
        only (str): Pattern of the names of the runs to train.
        redo (bool): Whether runs that do not fit are trained afresh; their
            old folders are renamed.
        train_args (list[str]): More options of tools/train.py.
        gpus_per_run (int): Processes of each training.

    Raises:
        SetupError: An option does not fit.
    """

    def __init__(
        self, grid: Grid, configs: dict, root: Path, only: str = '',
        redo: bool = False, train_args: list[str] = (), gpus_per_run: int = 1,
    ) -> None:  # fmt: skip
        for option in train_args:
            name = option.split('=')[0]
            # argparse takes any beginning of a name.
            if len(name) > 2 and any(o.startswith(name) for o in OWN_OPTIONS):
                raise SetupError(
                    f'{option} behind -- is set by this tool; change configs '
                    "by the grid's 'options'"
                )
        for name, cell in grid.cells.items():
            apply_options(cell, configs[name])
        self.grid, self.redo, self.train_args = grid, redo, train_args
        self.gpus_per_run = gpus_per_run
        # Seed by seed, so that pairs are complete early.
        self.runs = [
            Run(grid, cell, seed, configs[name], root, train_args,
                gpus_per_run)
            for seed in grid.seeds
            for name, cell in grid.cells.items()
        ]  # fmt: skip
        try:
            self.chosen = [r for r in self.runs if re.search(only, r.name)]
        except re.error as error:
            raise SetupError(f'--only {only!r}: {error}') from error
        plain = dict(highlight=False, markup=False, soft_wrap=True)
        self.console = Console(**plain)
        self._look()

    def _look(self) -> None:
        """Find out which runs are finished, and what is wrong with others."""
        self.records, self.failed = {}, {}
        for run in self.runs:
            try:
                record = run.record()
                if record:
                    self.records[run.name] = record
            except SetupError as error:
                self.failed[run.name] = str(error)

    def to_train(self) -> list[Run]:
        """Return the chosen runs that are to be trained."""
        left_out = {*self.records, *(() if self.redo else self.failed)}
        return [run for run in self.chosen if run.name not in left_out]

    def run(
        self, devices: list, out: Path, report_only: bool, progress: float
    ) -> int:
        """Train what is missing, and write the report.

        Args:
            devices (list): What :func:`~.pool.choose_devices` returns.
            out (Path): The folder for the report.
            report_only (bool): Whether nothing is trained.
            progress (float): Seconds between two lines about the progress.

        Returns:
            int: The exit status: 0, 1 if a run failed or was refused, 130 if
            the training was interrupted.
        """
        out.mkdir(parents=True, exist_ok=True)
        interrupted = not report_only and self._train(devices, progress)
        done = [run for run in self.runs if run.name in self.records]
        costs = find_costs(done, count=not interrupted)
        for warning in find_warnings(self.records):
            self.console.print(f'warning: {warning}')
        write_report(
            self.grid, self.records, self.failed, costs, self.train_args, out
        )
        self.console.print(
            f'{len(self.records)} of {len(self.runs)} runs are finished; '
            f'report: {out}/results.md, .csv, .png'
        )
        if interrupted:
            self.console.print(
                'interrupted: the same command goes on from here'
            )
            return 130
        for name, reason in self.failed.items():
            self.console.print(f'{name}: {reason}')
        return 1 if self.failed else 0

    def _train(self, devices: list, progress: float) -> bool:
        """Train what is missing; return whether this was interrupted."""
        todo = [run for run in self.to_train() if self._make_room(run)]
        for name, reason in self.failed.items():
            self.console.print(f'REFUSED {name}: {reason}')
        self.console.print(
            f'{self.grid.name}: {len(self.runs)} runs, {len(self.records)} '
            f'finished, {len(todo)} to train'
        )
        for run in todo:
            run.config.parent.mkdir(parents=True, exist_ok=True)
            run.cfg.dump(run.config)
        # Processes that share the cores must not each use all of them.
        threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        os.environ.setdefault('OMP_NUM_THREADS', str(threads))
        facts = {**environment(), 'runs at a time': len(devices)}
        facts['GPUs per run'] = self.gpus_per_run
        pool = Pool(devices, facts, self.console, progress)
        interrupted = pool.train(todo)
        # Other processes may have trained some meanwhile.
        self._look()
        self.failed.update(pool.failed)
        for run in pool.elsewhere:
            if run.name not in self.records:
                self.console.print(
                    f'{run.name}: left to another process; --report-only '
                    'makes the report once it has finished'
                )
        return interrupted

    def _make_room(self, run: Run) -> bool:
        """Rename the folder of a run that does not fit."""
        if run.name not in self.failed:
            return True
        with run.lock() as mine:
            if mine:
                old = run.set_aside()
                self.console.print(f'{run.name}: the old run is in {old}')
                del self.failed[run.name]
            else:
                self.failed[run.name] += '; another process has it now'
        return mine
