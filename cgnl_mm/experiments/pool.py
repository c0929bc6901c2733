"""Train the runs of a grid, several at a time."""

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from queue import SimpleQueue

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress

from ..errors import SetupError
from .run import Run, RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 20.0  # seconds between SIGTERM and SIGKILL
LOOK = 2.0  # seconds between two looks at the logs


def choose_devices(
    gpus: list[str] | None, per_run: int, jobs: int | None
) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each run at a time; None: as it is.

    Args:
        gpus (list[str] | None): Numbers of GPUs.
        per_run (int): GPUs of each run.
        jobs (int | None): Runs at a time; None: one for each set of GPUs.

    Raises:
        SetupError: The numbers do not go together, or a GPU is not there. A
            training that gets no GPU would run on the CPU without a word.
    """
    if per_run < 1 or (jobs is not None and jobs < 1):
        raise SetupError('--jobs and --gpus-per-run count from 1')
    if gpus is None:
        return [None] * (jobs or 1)
    number = torch.cuda.device_count()
    missing = [n for n in gpus if n.isdigit() and int(n) >= number]
    if missing:
        raise SetupError(
            f'--gpus {" ".join(missing)}: PyTorch sees {number} GPUs here, '
            'which count from 0'
        )
    if len(gpus) % per_run:
        raise SetupError(
            f'--gpus names {len(gpus)}, which is not a multiple of '
            f'--gpus-per-run {per_run}'
        )
    starts = range(0, len(gpus), per_run)
    sets = [','.join(gpus[start : start + per_run]) for start in starts]
    # More jobs than sets share the sets.
    return [sets[index % len(sets)] for index in range(jobs or len(sets))]


class Pool:
    """Run the processes of trainings, and say how far they are.

    Args:
        devices (list[str | None]): One entry for each run at a time:
            CUDA_VISIBLE_DEVICES, or None to leave the variable alone.
        environment (dict): Versions and hardware, for the records.
        console (Console): Where to say so.
        every (float): Seconds between two lines about the progress, where
            the console is not a terminal and shows no bar. Defaults to 60.

    Attributes:
        finished (list[Run]): Runs that were trained.
        failed (dict[str, str]): Reason by the name of a run.
        elsewhere (list[Run]): Runs that another process trains.
        active (dict[Run, float]): Runs that are being trained, with the share
            of each that was done before.
    """

    def __init__(
        self, devices: list, environment: dict, console: Console,
        every: float = 60.0,
    ) -> None:  # fmt: skip
        self.devices = SimpleQueue()
        for device in devices:
            self.devices.put(device)
        self.executor = ThreadPoolExecutor(len(devices))
        self.environment, self.console = environment, console
        self.every = every
        self.total = 0
        self.finished, self.failed, self.elsewhere = [], {}, []
        self.active: dict[Run, float] = {}
        self.processes = []
        self.stopping = False
        # No process starts once the pool is stopping.
        self.starting = threading.Lock()

    def train(self, runs: list[Run]) -> bool:
        """Train all runs; a failed run does not keep the others from it.

        Args:
            runs (list[Run]): The runs, in the order to start them.

        Returns:
            bool: Whether a signal ended the trainings before their time.
        """
        self.total = len(runs)
        handlers = {n: signal.signal(n, _interrupt) for n in SIGNALS}
        try:
            self._watch([self.executor.submit(self._train, r) for r in runs])
        except BaseException as error:
            self._stop()
            if not isinstance(error, KeyboardInterrupt):
                raise
        finally:
            self.executor.shutdown()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.stopping

    def _train(self, run: Run) -> None:
        device = self.devices.get()
        try:
            with run.lock() as mine:
                if not mine:
                    self.console.print(
                        f'{run.name}: another process is training it'
                    )
                # Or one has trained it since the grid was read.
                if not mine or run.record():
                    self.elsewhere.append(run)
                else:
                    self._train_locked(run, device)
        except Exception as error:
            known = isinstance(error, (OSError, SetupError))
            if not self.stopping:
                self.failed[run.name] = str(error) if known else repr(error)
                self.console.print(
                    f'FAILED {run.name}: {self.failed[run.name]}'
                )
        finally:
            self.active.pop(run, None)
            self.devices.put(device)

    def _train_locked(self, run: Run, device: str | None) -> None:
        begun = time.monotonic()
        self.active[run] = run.progress()
        peaks = [self._execute(run, c, device) for c in run.commands()]
        record = run.finish(max(peaks), self.environment)
        self.finished.append(run)
        name = run.grid.metrics[0]
        value = record['metrics'][name]['last'] * run.grid.scale
        self.console.print(
            f'[{len(self.finished)}/{self.total}] {run.name}: {name} '
            f'{value:.2f} ({time.monotonic() - begun:.0f} s)'
        )

    def _execute(self, run: Run, command: list, device: str | None) -> float:
        """Wait for a command; return its largest resident set in MiB."""
        with self.starting:
            if self.stopping:
                raise RunError('interrupted')
            process = run.start(command, device)
            self.processes.append(process)
        # Unlike Popen.wait, os.wait4 tells the memory.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if code:
            how = f'signal {-code}' if code < 0 else f'status {code}'
            raise RunError(f'ended with {how}: {run.last_error()}')
        return usage.ru_maxrss / 1024

    def _watch(self, futures: list) -> None:
        """Show the progress until all runs have ended."""
        bar = self.console.is_terminal
        begun = told = time.monotonic()
        columns = '{task.description}', BarColumn()
        with Progress(
            *columns, console=self.console, disable=not bar
        ) as shown:
            task = shown.add_task('', total=self.total)
            while futures:
                ended, futures = wait(futures, LOOK, FIRST_COMPLETED)
                for future in ended:
                    future.result()
                now = time.monotonic()
                done, text = self.status(now - begun)
                shown.update(task, completed=done, description=text)
                if self.active and not bar and now - told >= self.every:
                    told = now
                    self.console.print(text)

    def status(self, seconds: float) -> tuple[float, str]:
        """Return how many runs are done, and this and the time left in words.

        Args:
            seconds (float): Time since the start.
        """
        active = dict(self.active)
        # A trained run may have to be tested yet.
        shares = {run.name: 0.99 * run.progress() for run in active}
        here = len(self.finished) + sum(shares.values())
        done = here + len(self.failed) + len(self.elsewhere)
        # The first part of a resumed run was not done in this time.
        here -= sum(active.values())
        facts = f'{done / self.total:.0%}, {_duration(seconds)}'
        if here > 0 and done < self.total:
            left = seconds * (self.total - done) / here
            facts += f', about {_duration(left)} left'
        counted = f'{len(self.finished)} of {self.total} done'
        return done, f'{counted}; {", ".join(shares)} ({facts})'

    def _stop(self) -> None:
        """End all processes, those of data loaders included."""
        for number in SIGNALS:
            # A second Ctrl-C must not leave some of them behind.
            signal.signal(number, signal.SIG_IGN)
        with self.starting:
            self.stopping = True
        self.executor.shutdown(wait=False, cancel_futures=True)
        running = [p for p in self.processes if p.returncode is None]
        _end(running, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.active and time.monotonic() < deadline:
            time.sleep(0.1)
        # The group outlives its leader where a worker hangs.
        _end(running, signal.SIGKILL)


def _interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def _end(processes: list, number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f'{seconds:.0f} s'
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes:02} min' if hours else f'{minutes} min'
