"""Train the runs of a grid, one after another or on several devices."""

import os
import signal
import time
from dataclasses import dataclass, field
from subprocess import Popen

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cgnl_mm.errors import SetupError
from cgnl_mm.experiments.run import Run, RunError, commit_of
from cgnl_mm.hosts import HOME as ROOT

GRACE = 20.0  # seconds between SIGTERM and SIGKILL
POLL = 0.2  # seconds


@dataclass
class Active:
    """A run whose processes are there."""

    run: Run
    devices: str | None
    commands: object
    process: Popen
    started: float = field(default_factory=time.monotonic)
    at_start: float = 0.0  # share of the training that was done before
    peak_rss_mb: float = 0.0


class Pool:
    """Runs processes and says how far they are.

    Args:
        devices (list[str | None]): One entry for each run at a time:
            CUDA_VISIBLE_DEVICES, or None to leave it.
        environment (dict): Versions and hardware, for the records.
        console (Console): Where to say so.
        every (float): Seconds between two lines about it where the console
            is no terminal, and a bar would be nothing. Defaults to 60.
    """

    def __init__(
        self, devices: list, environment: dict, console, every: float = 60.0
    ) -> None:
        self.every = every
        self.free = list(devices)
        self.environment = environment
        self.console: Console = console
        self.active: list[Active] = []
        self.failed: dict[str, str] = {}  # reason by name of the run
        self.finished: list[Run] = []
        self.elsewhere: list[Run] = []  # trained by another process

    def train(self, runs: list[Run]) -> None:
        """Train all; one that fails does not keep the others from it.

        Args:
            runs (list[Run]): In this order.

        Raises:
            KeyboardInterrupt: After the processes were ended, on Ctrl-C,
                SIGTERM or SIGHUP.
        """
        waiting, total = list(runs), len(runs)
        self.total = total
        begun = told = time.monotonic()
        handlers = {
            number: signal.signal(number, _interrupt)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.percentage:>3.0f} %'),
            TimeElapsedColumn(),
            TextColumn('{task.fields[left]}'),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        task = progress.add_task('', total=total, left='')
        looked = 0.0
        try:
            with progress:
                while waiting or self.active:
                    while waiting and self.free:
                        self._begin(waiting.pop(0))
                    time.sleep(POLL)
                    for active in list(self.active):
                        self._poll(active)
                    if time.monotonic() - looked > 2 or not self.active:
                        looked = time.monotonic()
                        done, text, left = self._status(begun, waiting)
                        progress.update(
                            task, completed=done, description=text, left=left
                        )
                        due = looked - told >= self.every and self.active
                        if due and not self.console.is_terminal:
                            told = looked
                            self._say(
                                f'{text} ({done / total:.0%}, '
                                f'{_duration(looked - begun)}'
                                f'{left and ", "}{left})'
                            )
        except BaseException:
            self._stop()
            raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _begin(self, run: Run) -> None:
        if not run.lock():
            self.elsewhere.append(run)
            self._say(f'{run.name}: another process is training it')
            return
        devices = self.free.pop(0)
        try:
            # another process may have been here since the grid was read
            if run.state() == 'finished':
                run.unlock()
                self.free.append(devices)
                self.elsewhere.append(run)
                return
            at_start = run.progress()
            commands = run.commands()
            command = next(commands)  # makes the folder
            # now, as the tool may outlive a change of the code
            run.note_commit(commit_of(ROOT))
            process = run.start(command, devices)
        except BaseException as error:
            run.unlock()
            self.free.append(devices)
            if not isinstance(error, (OSError, RunError, SetupError)):
                raise
            self._fail(run, str(error))
            return
        self.active.append(
            Active(run, devices, commands, process, at_start=at_start)
        )

    def _poll(self, active: Active) -> None:
        pid, status, usage = os.wait4(active.process.pid, os.WNOHANG)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        active.process.returncode = code  # Popen was not asked
        # of the largest process, in KiB
        rss = usage.ru_maxrss / 1024
        active.peak_rss_mb = max(active.peak_rss_mb, rss)
        run = active.run
        try:
            if code:
                how = f'signal {-code}' if code < 0 else f'status {code}'
                raise RunError(f'ended with {how}: {_last_error(run)}')
            command = next(active.commands, None)
            if command is not None:
                active.process = run.start(command, active.devices)
                return
            record = run.finish(active.peak_rss_mb, self.environment)
        except (RunError, SetupError, OSError) as error:
            self._fail(run, str(error))
        except Exception as error:  # must not end the others
            self._fail(run, f'its results cannot be read: {error!r}')
        else:
            self.finished.append(run)
            name = run.grid.metrics[0]
            value = record['metrics'][name]['last'] * run.grid.scale
            seconds = time.monotonic() - active.started
            self._say(
                f'[{len(self.finished)}/{self.total}] {run.name}: {name} '
                f'{value:.2f} ({seconds:.0f} s)'
            )
        self.active.remove(active)
        self.free.append(active.devices)
        run.unlock()

    def _fail(self, run: Run, reason: str) -> None:
        self.failed[run.name] = reason
        self._say(f'FAILED {run.name}: {reason}')

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _status(self, begun: float, waiting: list) -> tuple:
        """Runs that are done, with parts of them; this in words; time left."""
        # a trained run is not done: it may be tested yet
        shares = {a.run.name: 0.99 * a.run.progress() for a in self.active}
        total = self.total
        done = total - len(waiting) - len(self.active) + sum(shares.values())
        # a resumed run's first part was not done in this time
        here = (
            len(self.finished)
            + sum(shares.values())
            - sum(a.at_start for a in self.active)
        )
        left = ''
        if here > 0 and done < total:
            seconds = (time.monotonic() - begun) * (total - done) / here
            left = f'about {_duration(seconds)} left'
        names = ', '.join(shares)
        return done, f'{len(self.finished)} of {total} done; {names}', left

    def _stop(self) -> None:
        """End all processes, those of data loaders included."""
        # a second Ctrl-C must not leave some of them behind
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for active in self.active:
            _signal(active.process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for active in self.active:
            while active.process.poll() is None:
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL)
            # the group outlives its leader where a worker hangs
            _signal(active.process, signal.SIGKILL)
            active.process.wait()
            active.run.unlock()


def _interrupt(number, frame) -> None:
    raise KeyboardInterrupt


def _signal(process: Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f'{seconds:.0f} s'
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02} min' if hours else f'{minutes} min'


def _last_error(run: Run) -> str:
    """The line of the output that says most, and where the rest is."""
    lines = [
        line.strip()
        for line in run.out.read_text(errors='replace').splitlines()
        if line.strip()
    ]
    told = [line for line in lines[-40:] if 'rror' in line.partition(':')[0]]
    line = (told or lines or ['no output'])[-1]
    return f'{line[:300]} (see {run.out})'
