"""Measure calls: interleaved times and peak memory."""

import random
import timeit
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.benchmark import timer

from ..errors import describe_error
from .forms import Settings

WARM_UP, ROUNDS = 2, 15
# Seconds of one pass of a case: on a GPU all passes are to end in 5 minutes.
BUDGET = dict(cpu=120.0, cuda=6.0)


@contextmanager
def noting_failure(status: dict[str, str], name: str):
    """Note an exception as the status of a form, so that the others go on."""
    try:
        yield
    except Exception as error:
        status[name] = f'failed: {describe_error(error)}'
        torch.cuda.empty_cache()


def measure(
    kind: str, calls: dict[str, Callable[[], object]],
    failed: dict[str, str], settings: Settings,
) -> list[dict]:  # fmt: skip
    """Measure time and memory of one pass.

    Args:
        kind (str): Name of the pass.
        calls (dict[str, Callable]): Calls by the name of the form.
        failed (dict[str, str]): Status of forms that have no call.
        settings (Settings): How to measure.

    Returns:
        list[dict]: A record for each form.
    """
    status, records = dict(failed), []
    budget = 0.0 if settings.quick else BUDGET[settings.device]
    samples = time_interleaved(calls, status, budget)
    for name in dict.fromkeys([*calls, *failed]):
        record = {'form': name, 'pass': kind}
        if name in samples:
            quartiles = 1e3 * np.quantile(samples[name], (0.25, 0.5, 0.75))
            record.update(zip(('q1_ms', 'median_ms', 'q3_ms'), quartiles))
            record['samples'] = len(samples[name])
            with noting_failure(status, name):
                record['peak_mb'] = peak_bytes(calls[name]) / 1e6
        records.append({**record, 'status': status.get(name, 'ok')})
    return records


def time_interleaved(
    calls: dict[str, Callable[[], object]], failed: dict[str, str],
    budget: float, shortest: float = 2e-3,
) -> dict[str, list[float]]:  # fmt: skip
    """Time calls round robin, so that all see the same state of the machine.

    Each round takes one sample of every call, in an order drawn anew. There
    are 15 rounds; 3 or more if so many exceed the budget.

    Args:
        calls (dict[str, Callable]): Calls by name.
        failed (dict[str, str]): Gets the status of each call that raises an
            exception when it warms up, by name.
        budget (float): Seconds for all rounds.
        shortest (float): Seconds that a sample should last at least; a short
            call is repeated within a sample. Defaults to 0.002.

    Returns:
        dict[str, list[float]]: Seconds of one call in each sample, by name.
    """
    # PyTorch's timer waits for the GPU.
    timers = {k: timeit.Timer(call, timer=timer) for k, call in calls.items()}
    repeats, seconds = {}, 0.0
    for name, clock in timers.items():
        with noting_failure(failed, name):
            clock.timeit(WARM_UP)
            once = clock.timeit(1)
            repeats[name] = max(1, round(shortest / once))
            seconds += once * repeats[name]
    order, shuffle = list(repeats), random.Random(0).shuffle
    samples = {name: [] for name in order}
    for _ in range(max(3, min(ROUNDS, int(budget / (seconds or 1))))):
        shuffle(order)
        for name in order:
            sample = timers[name].timeit(repeats[name])
            samples[name].append(sample / repeats[name])
    return samples


def peak_bytes(call: Callable[[], object]) -> int:
    """Measure the most memory that a call holds beyond what was there.

    It is the sum of what PyTorch allocates and frees in the profiler's log,
    without the libraries' own buffers, such as oneDNN's reordered weights.

    Args:
        call (Callable): Call, which runs once; it should have run before.
    """
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as log:
        call()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in log.profiler.kineto_results.events()
        if event.name() == '[memory]'  # of any device
    )
    return int(max(np.cumsum([size for _, size in events]), default=0))
