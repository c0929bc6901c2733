"""Which path computes a block, and why.

Chosen by the measurements of docs/performance.md, which
``tools/benchmark.py`` repeats; ``backend=`` of a block forces one.
"""

import logging
import math
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from .inner_sums import GramSums

BACKENDS = ('auto', 'reference', 'folded', 'gram', 'triton')
# Measured on CPUs. Positions from which on the folded path is the faster one;
# without gradients it saves fewer passes, and oneDNN's convolutions are ahead
# longer.
TRAINING, INFERENCE = 512, 8192
# Positions for each channel from which on the Gram matrix is, in both.
GRAM = 2

_logger = logging.getLogger('cgnl_mm')
_said = set()


def choose(
    backend: str,
    find_obstacle: Callable[[str], Optional[str]],
    x: Tensor,
    inner: int,
    recompute: bool = False,
) -> str:
    """Choose the path of one call.

    Args:
        backend (str): One of :data:`BACKENDS`.
        find_obstacle (Callable): Says why the block cannot take a path.
        x (Tensor): The block's input.
        inner (int): Inner channels of a group, C' / G.
        recompute (bool): Whether memory goes before time. Defaults to False.

    Returns:
        str: 'reference', 'folded', 'gram' or 'triton'.

    Raises:
        RuntimeError: If a path is forced, but cannot be taken.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        # the compiler fuses the reference; exporters know its operators
        return 'reference'
    if backend == 'reference':
        return backend
    if backend != 'auto':
        reason = find_obstacle(backend) or _obstacle(backend, x, inner)
        if reason:
            raise RuntimeError(
                f"backend='{backend}' does not serve: {reason}; use 'auto' "
                "or 'reference'"
            )
        return backend
    path, reason = _choose_auto(find_obstacle, x, inner, recompute)
    _say_once(f'CGNL runs its {path} path: {reason}')
    return path


def _choose_auto(find_obstacle, x, inner, recompute) -> Tuple[str, str]:
    """The path of backend='auto', and why."""
    obstacle = find_obstacle('folded') or _obstacle('folded', x, inner)
    if obstacle:
        return 'reference', obstacle
    device = x.device.type
    positions = math.prod(x.shape[2:])
    if device == 'cpu' and positions >= GRAM * x.shape[1]:
        if not (find_obstacle('gram') or _obstacle('gram', x, inner)):
            return 'gram', f'{GRAM} positions a channel, or more'
    if recompute:
        return 'folded', 'recompute=True'
    if device != 'cpu':
        return 'reference', f'the others are not measured on {device} yet'
    enough = TRAINING if torch.is_grad_enabled() else INFERENCE
    if positions >= enough:
        return 'folded', f'{enough} positions or more'
    return 'reference', f'fewer than {enough} positions'


def _obstacle(path: str, x: Tensor, inner: int) -> Optional[str]:
    """Say why a path does not serve an input; None if it does."""
    if (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return 'torch.func and forward-mode derivatives know its layers alone'
    if not x.numel():
        return 'an empty input'
    if path == 'triton':
        from . import passes_triton  # imports triton

        return passes_triton.supported(x, inner)
    return GramSums.obstacle(x) if path == 'gram' else None


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _logger.info(text)

