"""Train what is missing of a grid, and report all that is there."""

import copy
import os
import re
import sys
from pathlib import Path

from ..analysis.environment import environment
from ..analysis.flops import count_flops
from ..deploy.model import build_model, input_shape
from ..errors import SetupError, describe_error
from .grid import Grid
from .pool import Pool
from .report import write_report
from .run import Run


class Experiment:
    """Hold the runs of a grid.

    Args:
        grid (Grid): The grid.
        configs (dict[str, Config]): The config of each cell.
        root (Path): The grid's folder.
        only (str): Pattern of the names of the runs to train.

    Raises:
        SetupError: The pattern is not one.
    """

    def __init__(
        self, grid: Grid, configs: dict, root: Path, only: str
    ) -> None:
        self.grid, self.root = grid, root
        # Seed by seed, so that pairs are complete early.
        self.runs = [
            Run(grid, cell, seed, configs[name], root)
            for seed in grid.seeds
            for name, cell in grid.cells.items()
        ]
        try:
            self.chosen = [r for r in self.runs if re.search(only, r.name)]
        except re.error as error:
            raise SetupError(f'--only {only!r}: {error}') from error
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
        left_out = {*self.records, *self.failed}
        return [run for run in self.chosen if run.name not in left_out]

    def run(self, devices: list, runs: list[Run]) -> int:
        """Train, and write the report.

        Args:
            devices (list): What :func:`~.pool.choose_devices` returns.
            runs (list[Run]): Of :meth:`to_train`.

        Returns:
            int: The exit status: 0, 1 if a run failed or was refused, 130 if
            the training was interrupted.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        interrupted = bool(runs) and self._train(devices, runs)
        costs = {} if interrupted else self._count()
        write_report(self.grid, self.records, self.failed, costs, self.root)
        print(
            f'{len(self.records)} of {len(self.runs)} runs are finished; '
            f'report: {self.root}/results.md, .csv, .png'
        )
        if interrupted:
            print('interrupted: the same command goes on from here')
            return 130
        for name, reason in self.failed.items():
            print(f'{name}: {reason}')
        return 1 if self.failed else 0

    def _train(self, devices: list, runs: list[Run]) -> bool:
        """Train; return whether this was interrupted."""
        print(f'{self.grid.name}: {len(runs)} runs to train', flush=True)
        # Processes that share the cores must not each use all of them.
        threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        os.environ.setdefault('OMP_NUM_THREADS', str(threads))
        pool = Pool(devices, {**environment(), 'runs at a time': len(devices)})
        interrupted = pool.train(runs)
        # Other processes may have trained some meanwhile.
        self._look()
        self.failed.update(pool.failed)
        return interrupted

    def _count(self) -> dict[str, dict]:
        """Count 'params' and 'flops' of each cell that has a finished run."""
        costs = {}
        for run in self.runs:
            name = run.cell.name
            if run.name not in self.records or name in costs:
                continue
            # Building the network changes its config.
            cfg = copy.deepcopy(run.cfg)
            try:
                shape = input_shape(cfg, self.grid.shape or None)
                counted = count_flops(build_model(cfg, None), shape)
                costs[name] = counted['network']
            except Exception as error:  # the report does not depend on it
                text = describe_error(error)
                print(f'note: no FLOPs of {name}: {text}', file=sys.stderr)
        return costs
