"""The fastest path of a block here: ``backend='autotune'`` measures it."""

import logging
import math
import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..ops.dispatch import is_capturing, say_once
from ..ops.triton_launch import tf32_allowed
from ..ops.versions import autocast_dtype

# by this much a path has to beat that of 'auto': less is noise
MARGIN = 0.05
ROUNDS, SECONDS = 3, 0.1  # of each path
# of the norm of an output or gradient, beside four times the reference's error
TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
}

# those of register_module_forward_hook and the like
GLOBAL_HOOKS = [
    getattr(torch_module, f'_global_{kind}_hooks')
    for kind in ('forward_pre', 'forward', 'backward_pre', 'backward')
]

_choices: Dict[tuple, Tuple[str, str]] = {}
_lock = threading.Lock()  # two measurements would slow each other


def fastest(
    block: nn.Module, x: Tensor, paths: Sequence[str]
) -> Tuple[str, str]:
    """Measure the paths once for each kind of input, and take the fastest.

    A kind is the block's settings, batch and positions to a power of two,
    type, layout, and which gradients are needed. The paths run on random
    numbers of the input's shape, forward and, where gradients are needed,
    backward, and only those count that are about as exact as the reference.
    Neither the block's state nor PyTorch's random generator is touched.

    Args:
        block (Module): A CGNL block.
        x (Tensor): Its input.
        paths (Sequence[str]): Those that serve; first the one to take where
            nothing can be measured or none is faster by 5 %.

    Returns:
        tuple[str, str]: The path, and why.
    """
    default = paths[0]
    if len(paths) == 1:
        return default, 'the only one that serves'
    obstacle = _why_not_measured(block, x)
    if obstacle is not None:
        return default, f'not measured: {obstacle}'
    key = _kind(block, x, paths)
    if key not in _choices:
        if is_capturing(x):
            return default, (
                'not measured: a CUDA graph is captured; call the block once '
                'before'
            )
        with _lock:
            if key not in _choices:  # another thread may have been faster
                _choices[key] = _measure(block, x, paths)
    return _choices[key]


def _why_not_measured(block: nn.Module, x: Tensor) -> Optional[str]:
    """Say what forbids or distorts measurements; None if nothing does.

    Also what was measured before is then not asked for: selective
    checkpointing is a dispatch mode, and what it computes again has to take
    the path that it took at first.
    """
    if x.device.type not in ('cpu', 'cuda'):
        return f'{x.device.type} has no clock here'
    if torch.are_deterministic_algorithms_enabled():
        return 'deterministic algorithms are wanted'
    if torch._C._len_torch_dispatch_stack():
        return 'a dispatch mode, such as a counter, looks on'
    if any(GLOBAL_HOOKS):
        return 'a hook on all modules looks on'
    if block.theta._parameters.get('weight') is None:
        return 'the weights are not the parameters of the layers (FSDP)'
    return None


def _kind(block: nn.Module, x: Tensor, paths: Sequence[str]) -> tuple:
    norm = block.norm
    wanted = torch.is_grad_enabled() and (
        x.requires_grad,
        *(p.requires_grad for p in block.parameters()),
    )
    return (
        type(block), block.in_channels, block.reduction, block.groups,
        block.mode, block.order, block.recompute, type(norm),
        getattr(norm, 'num_groups', None), norm.training,
        block.theta.weight.dtype, type(x), x.device, x.dtype,
        autocast_dtype(x.device.type), len(x).bit_length(),
        math.prod(x.shape[2:]).bit_length(), x.is_contiguous(), wanted,
        tuple(paths), tf32_allowed(),
        # of autograd's thread for a GPU it may be another one
        torch.get_num_threads() if x.device.type == 'cpu' else None,
    )  # fmt: skip


class _Trial(nn.Module):
    """A block on a given path, without the hooks of the block itself.

    Its tensors can be exchanged while other threads use the block.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = _twin(block)

    def forward(self, x: Tensor, path: str) -> Tensor:
        return self.block.run_path(x, path)


def _twin(module: nn.Module) -> nn.Module:
    """The same module, but for the dictionaries of its tensors."""
    twin = type(module).__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__.update(
        _parameters=dict(module._parameters),
        _buffers=dict(module._buffers),
        _modules={
            name: child and _twin(child)
            for name, child in module._modules.items()
        },
    )
    return twin


def _measure(
    block: nn.Module, x: Tensor, paths: Sequence[str]
) -> Tuple[str, str]:
    try:
        # else checkpointing, which counts what is saved, would count ours
        with torch.autograd.graph.saved_tensors_hooks(_same, _same):
            calls = _agreeing(_trial_call(block, x), paths, x)
            if not calls:
                return 'reference', 'no other path is right'
            times = _time(calls, x)
    except Exception as error:  # the block will raise its own
        return paths[0], f'not measured: {_describe(error)}'
    best = min(times, key=times.get)
    default = paths[0] if paths[0] in times else best
    if times[best] > (1 - MARGIN) * times[default]:
        best = default
    measured = ', '.join(f'{n} {1e3 * t:.3g} ms' for n, t in times.items())
    kind = 'x'.join(map(str, x.shape))
    what = 'training' if torch.is_grad_enabled() else 'inference'
    return best, f'measured {measured} ({kind}, {x.dtype}, {what})'


def _same(x: Tensor) -> Tensor:
    return x


def _trial_call(block: nn.Module, x: Tensor) -> Callable[[str], List[Tensor]]:
    """A function of the path: output and gradients for stand-ins."""
    generator = torch.Generator(x.device).manual_seed(0)
    is_training = torch.is_grad_enabled()
    device, positions = x.device.type, math.prod(x.shape[2:])

    def draw(like: Tensor, std: float = 1.0) -> Tensor:
        out = torch.empty_like(like, requires_grad=False)
        return out.normal_(0.0, std, generator=generator)

    # Far above its eps the norm cancels the attention, and what the reference
    # then finds for the gradients of phi and g is rounding: to stay about it,
    # the four convolutions share a factor.
    numbers = positions * block.inter_channels // block.groups
    factor = (getattr(block.norm, 'eps', 1e-5) ** 0.5 / numbers) ** 0.25
    state = {name: b.detach().clone() for name, b in block.named_buffers()}
    for name, p in block.named_parameters():
        if p.dim() > 1:  # a convolution
            state[name] = draw(p, factor * p[0].numel() ** -0.5)
        elif name.startswith('norm.'):  # starts at zero, which hides all else
            state[name] = torch.full_like(p, float(name == 'norm.weight'))
        else:
            state[name] = p.detach().clone()
    if 'g.weight' in state:  # an inner product far from zero
        state['phi.weight'] = state['g.weight'].clone()
    state = {f'block.{name}': value for name, value in state.items()}
    state['x'] = draw(x)
    wanted = dict(block.named_parameters(prefix='block'), x=x)
    wanted = [n for n, a in wanted.items() if is_training and a.requires_grad]
    trial = _Trial(block)

    def call(path: str, dtype: Optional[torch.dtype] = None) -> List[Tensor]:
        # each call has leaves of its own
        given = {
            name: a.to(dtype) if dtype and a.is_floating_point() else a
            for name, a in state.items()
        }
        for name in wanted:
            given[name] = given[name].detach().requires_grad_()
        inputs = given.pop('x')
        amp = autocast_dtype(device)
        # its cache would hold the leaves of each call until autocast ends
        with torch.autocast(
            device, amp, enabled=amp is not None, cache_enabled=False
        ):
            out = torch.func.functional_call(trial, given, (inputs, path))
        if not wanted:
            return [out]
        d = inputs.detach() * positions**-0.5  # as float16 can sum up
        given['x'] = inputs
        with torch.autocast(device, enabled=False):  # as a training step does
            gradients = torch.autograd.grad(
                out, [given[n] for n in wanted], d, materialize_grads=True
            )
        return [out.detach(), *gradients]

    return call


def _agreeing(
    call: Callable, paths: Sequence[str], x: Tensor
) -> Dict[str, Callable]:
    """Calls of the reference, and of the paths that are as exact."""
    device = x.device.type
    dtype = autocast_dtype(device) or x.dtype
    is_half = dtype in (torch.float16, torch.bfloat16)
    with torch.autocast(device, enabled=False):
        truth = call('reference', torch.float32 if is_half else torch.float64)
    slack = [TOLERANCES[dtype] * t.norm().item() for t in truth]
    allowed = [
        4 * e + s for e, s in zip(_errors(call('reference'), truth), slack)
    ]
    calls = {}
    for path in paths:
        if path != 'reference':
            try:
                reason = _find_deviation(call(path), truth, allowed)
            except torch.cuda.OutOfMemoryError:  # of the trials: no defect
                raise
            except Exception as error:
                reason = _describe(error)
            if reason is not None:
                text = f"CGNL's {path} path is left out here"
                say_once(
                    logging.WARNING,
                    f'{text}: {reason}. The results are not affected; please '
                    'report it',
                    topic=text,
                )
                continue
        calls[path] = lambda path=path: call(path)
    return calls


def _errors(found: List[Tensor], truth: List[Tensor]) -> List[float]:
    # the difference first: its norm in float16 would overflow
    return [(a.to(b.dtype) - b).norm().item() for a, b in zip(found, truth)]


def _find_deviation(
    found: List[Tensor], truth: List[Tensor], allowed: List[float]
) -> Optional[str]:
    for error, limit, t in zip(_errors(found, truth), allowed, truth):
        # where the reference is not finite, there is no limit
        if math.isfinite(limit) and not error <= limit:
            size = max(t.norm().item(), 1e-30)
            return (
                f'its results deviate by {error / size:.1e}, allowed are '
                f'{limit / size:.1e}'
            )
    return None


def _time(calls: Dict[str, Callable], x: Tensor) -> Dict[str, float]:
    """Seconds of each call: the least of interleaved rounds."""
    # as many calls a sample as outlast the clock and a GPU's queue
    counts = {
        name: max(1, round(SECONDS / ROUNDS / _seconds(call, 1, x)))
        for name, call in calls.items()
    }
    times = dict.fromkeys(calls, float('inf'))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            seconds = _seconds(call, counts[name], x)
            times[name] = min(times[name], seconds)
    return times


def _seconds(call: Callable, count: int, x: Tensor) -> float:
    _synchronize(x)
    start = time.perf_counter()
    for _ in range(count):
        call()
    _synchronize(x)
    return (time.perf_counter() - start) / count


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _describe(error: Exception) -> str:
    text = str(error).strip() or repr(error)
    return f'{type(error).__name__}: {text.splitlines()[0]}'
