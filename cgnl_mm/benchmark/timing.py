"""Measure calls: interleaved times, peak memory, and what autograd keeps."""

import gc
import random
import timeit
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import timer

from ..errors import describe_error

WARM_UP = 2


def time_interleaved(
    calls: dict[str, Callable[[], object]], failed: dict[str, str],
    rounds: int, budget: float = 20.0, shortest: float = 2e-3,
) -> dict[str, list[float]]:  # fmt: skip
    """Time calls round robin, so that all see the same state of the machine.

    Each round takes one sample of every call, in an order drawn anew. A call
    so slow that its samples exceed the budget gets fewer, but 3 or more.

    Args:
        calls (dict[str, Callable]): Calls by name.
        failed (dict[str, str]): Gets the status of each call that raises an
            exception, by name.
        rounds (int): Number of samples of each call.
        budget (float): Seconds for the samples of one call.
            Defaults to 20.
        shortest (float): Seconds that a sample should last at least; a short
            call is repeated within a sample. Defaults to 0.002.

    Returns:
        dict[str, list[float]]: Seconds of one call in each sample, by name.
    """
    # PyTorch's timer waits for the GPU.
    timers = {k: timeit.Timer(call, timer=timer) for k, call in calls.items()}
    repeats, quota = {}, {}
    for name, clock in timers.items():
        with noting_failure(failed, name):
            clock.timeit(WARM_UP)
            seconds = clock.timeit(1)
            repeats[name] = max(1, round(shortest / seconds))
            affordable = int(budget / (seconds * repeats[name]))
            quota[name] = max(3, affordable)
    order, shuffle = list(quota), random.Random(0).shuffle
    samples = {name: [] for name in order}
    for number in range(rounds):
        shuffle(order)
        for name in order:
            if number < quota[name] and name not in failed:
                with noting_failure(failed, name):
                    seconds = timers[name].timeit(repeats[name])
                    samples[name].append(seconds / repeats[name])
    return {k: v for k, v in samples.items() if k not in failed}


class NotTimedError(Exception):
    """Say why a form is not timed."""


@contextmanager
def noting_failure(status: dict[str, str], name: str):
    """Note an exception as the status of a form, so that the others go on."""
    try:
        yield
    except NotTimedError as reason:
        status[name] = str(reason)
    except Exception as error:
        status[name] = f'failed: {describe_error(error)}'[:300]
        gc.collect()
        torch.cuda.empty_cache()


def forward_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Make the call of a module in inference mode."""
    module.eval()

    def call():
        with torch.inference_mode():
            return module(x)

    return call


def training_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Make the call that computes the gradients of x and all parameters."""
    module.train()
    x = x.detach().requires_grad_()
    inputs = [x, *module.parameters()]
    with torch.no_grad():
        grads = [torch.randn_like(out) for out in as_tuple(module(x))]

    def call():
        return torch.autograd.grad(as_tuple(module(x)), inputs, grads)

    return call


def as_tuple(out: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def saved_bytes(module: nn.Module, x: Tensor) -> dict[str, float]:
    """Count what autograd keeps for the backward pass.

    A storage counts once and whole, however many views of it are kept.

    Args:
        module (Module): Module, which runs once in training mode.
        x (Tensor): Input of the module.

    Returns:
        dict[str, float]: Columns with the megabytes of the input, of the
        parameters and buffers, and of all else.
    """
    x = x.detach().requires_grad_()
    own = [*module.parameters(), *module.buffers()]
    kinds = {storage_of(t): 'saved_parameters_mb' for t in own}
    kinds[storage_of(x)] = 'saved_x_mb'
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        # The output keeps the storages from being used again.
        out = module.train()(x)
    total = dict(saved_mb=0.0, saved_x_mb=0.0, saved_parameters_mb=0.0)
    for storage, size in kept.items():
        total[kinds.get(storage, 'saved_mb')] += size / 1e6
    del out
    return total


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Measure the most memory that a call holds beyond what was there.

    On CUDA the caching allocator knows it. On a CPU it is the sum of what
    PyTorch allocates and frees in the profiler's log. Neither includes the
    libraries' own buffers, such as oneDNN's reordered weights.

    Args:
        call (Callable): Call, which runs once; it should have run before.
        device (str): 'cpu' or 'cuda'.
    """
    if device != 'cpu':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as log:
        call()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in log.profiler.kineto_results.events()
        if event.name() == '[memory]'
    )
    return int(max(np.cumsum([size for _, size in events]), default=0))
