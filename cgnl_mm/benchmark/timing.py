"""How tools/benchmark.py measures: interleaved times, memory, saved bytes."""

import gc
import os
import random
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext

# the profiler announces itself on stderr; read when torch is imported
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import numpy as np
import torch
from torch import Tensor, nn

WARM_UP = 2


def time_interleaved(
    calls: dict[str, Callable[[], object]],
    device: str,
    rounds: int,
    budget: float = 20.0,
    shortest: float = 2e-3,
    advance: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time calls round robin, so that all see the same state of the machine.

    Each round runs every call once, in an order drawn anew. A short call is
    repeated within a sample. A call so slow that ``rounds`` samples exceed
    the budget gets fewer, but 3 or more.

    Args:
        calls (dict[str, Callable]): What to time.
        device (str): On 'cuda' a sample ends when the GPU is done.
        rounds (int): Samples of each.
        budget (float): Seconds for the samples of one call.
            Defaults to 20.
        shortest (float): Seconds that a sample should last at least.
            Defaults to 0.002.
        advance (Callable): Told the name before each sample.

    Returns:
        tuple[dict, dict]: Samples in seconds, and the message of what raised
        instead; each by name.
    """
    repeats, quota, errors = {}, {}, {}
    samples = {name: [] for name in calls}
    for name, call in calls.items():
        advance(name)
        try:
            for _ in range(WARM_UP):
                call()
            seconds = _sample(call, device, 1)
        except Exception as error:  # one form's fault is not the others'
            errors[name] = describe(error)
            _free(device)
            continue
        repeats[name] = max(1, round(shortest / seconds))
        affordable = int(budget / (seconds * repeats[name]))
        quota[name] = max(min(rounds, affordable), min(rounds, 3))
    order, shuffle = list(quota), random.Random(0).shuffle
    enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            shuffle(order)
            for name in order:
                if number < quota[name] and name not in errors:
                    advance(name)
                    try:
                        seconds = _sample(calls[name], device, repeats[name])
                        samples[name].append(seconds)
                    except Exception as error:
                        errors[name] = describe(error)
                        _free(device)
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return {k: v for k, v in samples.items() if k not in errors}, errors


def describe(error: BaseException) -> str:
    """One line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}'[:300]


def _sample(call, device: str, repeats: int) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _synchronize(device)
    return (time.perf_counter() - start) / repeats


def _synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def _free(device: str) -> None:
    gc.collect()
    if device != 'cpu':
        torch.cuda.empty_cache()


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    return tuple(np.quantile(samples, (0.25, 0.5, 0.75)).tolist())


def forward_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Evaluation in inference mode."""
    module.eval()

    def call():
        with torch.inference_mode():
            return module(x)

    return call


def training_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward and backward: gradients of x and of every parameter."""
    module.train()
    x = x.detach().requires_grad_()
    inputs = [x, *module.parameters()]
    with torch.no_grad():
        grads = [torch.randn_like(out) for out in _as_tuple(module(x))]

    def call():
        return torch.autograd.grad(_as_tuple(module(x)), inputs, grads)

    return call


def _as_tuple(out) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def saved_bytes(module: nn.Module, x: Tensor) -> dict[str, int]:
    """Count what autograd keeps for the backward pass.

    A storage counts once and whole, however many views of it are kept.

    Args:
        module (Module): Run once, in training mode.
        x (Tensor): Its input.

    Returns:
        dict[str, int]: 'saved', without what is there anyway: 'x' and
        'parameters' (buffers included).
    """
    module.train()
    x = x.detach().requires_grad_()
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = module(x)
    own = _pointers([*module.parameters(), *module.buffers()])
    mine = _pointers([x])
    del out
    return {
        'saved': sum(n for p, n in kept.items() if p not in own | mine),
        'x': sum(n for p, n in kept.items() if p in mine),
        'parameters': sum(n for p, n in kept.items() if p in own),
    }


def _pointers(tensors: Iterable[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Most memory that a call holds beyond what was there before.

    On CUDA from the caching allocator; on a CPU the sum of what PyTorch
    allocates and frees, in the profiler's log. Libraries' own buffers
    (oneDNN's reordered weights) are in neither.

    Args:
        call (Callable): Run once, after a warm-up.
        device (str): 'cpu' or 'cuda'.
    """
    if device != 'cpu':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(
        activities=activities, profile_memory=True
    ) as log:
        call()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in log.profiler.kineto_results.events()
        if event.name() == '[memory]'
    )
    return int(max(np.cumsum([size for _, size in events]), default=0))


def autocast(device: str, dtype: torch.dtype):
    """Mixed precision; nothing for float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device, dtype)
