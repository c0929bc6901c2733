"""Train the runs of a grid, several at a time."""

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch

from ..errors import SetupError, require_count
from .run import Run, RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 20.0  # seconds between SIGTERM and SIGKILL


def choose_devices(
    gpus: list[str] | None, jobs: int | None
) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each run at a time; None: as it is.

    Args:
        gpus (list[str] | None): Numbers of GPUs.
        jobs (int | None): Runs at a time; None: one for each GPU.

    Raises:
        SetupError: A number is wrong, or a GPU is not there. A training that
            gets no GPU would run on the CPU without a word.
    """
    devices = gpus or [None]
    jobs = len(devices) if jobs is None else jobs
    require_count('--jobs', jobs)
    number = torch.cuda.device_count()
    if any(n.isdigit() and int(n) >= number for n in gpus or ()):
        raise SetupError(
            f'--gpus {" ".join(gpus)}: PyTorch sees {number} GPUs here, '
            'which count from 0'
        )
    # More jobs than GPUs share them.
    return [devices[index % len(devices)] for index in range(jobs)]


class Pool:
    """Run the processes of trainings.

    Args:
        devices (list[str | None]): One entry for each run at a time:
            CUDA_VISIBLE_DEVICES, or None to leave the variable alone.
        environment (dict): Versions and hardware, for the records.

    Attributes:
        failed (dict[str, str]): Reason by the name of a run.
    """

    def __init__(self, devices: list, environment: dict) -> None:
        self.devices = SimpleQueue()
        for device in devices:
            self.devices.put(device)
        self.executor = ThreadPoolExecutor(len(devices))
        self.environment, self.failed = environment, {}
        self.running = []
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
        stop = signal.default_int_handler
        handlers = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            for future in [self.executor.submit(self._train, r) for r in runs]:
                future.result()
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
        device, begun = self.devices.get(), time.monotonic()
        try:
            with run.lock() as mine:
                if not mine:
                    _tell(f'{run.name}: another process is training it')
                # One may have trained it since the grid was read.
                elif not run.record():
                    peaks = [self._run(run, c, device) for c in run.commands()]
                    record = run.finish(max(peaks), self.environment)
                    name = run.grid.metrics[0]
                    value = record['metrics'][name]['last'] * run.grid.scale
                    seconds = time.monotonic() - begun
                    _tell(f'{run.name}: {name} {value:.2f} ({seconds:.0f} s)')
        except Exception as error:
            known = isinstance(error, (OSError, SetupError))
            if not self.stopping:
                self.failed[run.name] = str(error) if known else repr(error)
                _tell(f'FAILED {run.name}: {self.failed[run.name]}')
        finally:
            self.devices.put(device)

    def _run(self, run: Run, command: list, device: str | None) -> float:
        """Wait for a command; return its largest resident set in MiB."""
        with self.starting:
            if self.stopping:
                raise RunError('interrupted')
            process = run.start(command, device)
            self.running.append(process.pid)
        # Unlike Popen.wait, os.wait4 tells the memory.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        self.running.remove(process.pid)
        if code:
            how = f'signal {-code}' if code < 0 else f'status {code}'
            raise RunError(f'ended with {how}: {run.last_error()}')
        return usage.ru_maxrss / 1024

    def _stop(self) -> None:
        """End all processes, those of data loaders included."""
        for number in SIGNALS:
            # A second Ctrl-C must not leave some of them behind.
            signal.signal(number, signal.SIG_IGN)
        with self.starting:
            self.stopping = True
        self.executor.shutdown(wait=False, cancel_futures=True)
        leaders = list(self.running)
        _end(leaders, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.running and time.monotonic() < deadline:
            time.sleep(0.1)
        # The group outlives its leader where a worker hangs.
        _end(leaders, signal.SIGKILL)


def _tell(text: str) -> None:
    # In one piece, although threads print.
    print(f'{text}\n', end='', flush=True)


def _end(leaders: list[int], number: int) -> None:
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, number)
