"""Which path computes a block, and why.

Chosen by the measurements of docs/performance.md, which
``tools/benchmark.py`` repeats; ``backend=`` of a block forces one.
"""

import logging
import math
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from ..ops.fused.moments import GramSums
from ..ops.torch_versions import is_compiling

PATHS = ('reference', 'folded', 'gram')
BACKENDS = ('auto', *PATHS)
# Measured on CPUs. The folded path keeps half as much for the backward pass
# in no more time, from so many positions on, unless its covariances are large.
FOLDED_POSITIONS, FOLDED_INNER = 512, 64
# The Gram matrix wins from so many positions on, in all and for each channel.
# Without gradients it spares fewer products.
GRAM_POSITIONS, GRAM_TRAINING, GRAM_INFERENCE = 2048, 2, 6

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
        str: 'reference', 'folded' or 'gram'.

    Raises:
        RuntimeError: If a path is forced, but cannot be taken.
    """
    if is_compiling() or torch.jit.is_tracing():
        # the compiler fuses the reference; exporters know its operators
        return 'reference'

    def find(path: str) -> Optional[str]:
        return find_obstacle(path) or _obstacle(path, x)

    if backend == 'auto':
        path, reason = _choose_auto(find, x, inner, recompute)
    else:
        path, reason = backend, f"backend='{backend}'"
        obstacle = None if backend == 'reference' else find(backend)
        if obstacle:
            raise RuntimeError(
                f"backend='{backend}' does not serve: {obstacle}; use 'auto' "
                "or 'reference'"
            )
    _say_once(f'CGNL runs its {path} path: {reason}')
    return path


def _choose_auto(find, x, inner, recompute) -> Tuple[str, str]:
    """The path of backend='auto', and why."""
    obstacle = find('folded')
    if obstacle:
        lost = ' (recompute=True has no effect)' if recompute else ''
        return 'reference', obstacle + lost
    device, is_training = x.device.type, torch.is_grad_enabled()
    positions = math.prod(x.shape[2:])
    if device == 'cpu':
        limit = GRAM_TRAINING if is_training else GRAM_INFERENCE
        limit = max(limit * x.shape[1], GRAM_POSITIONS)
        if positions >= limit and not find('gram'):
            return 'gram', f'{limit} positions or more'
    if recompute and is_training:
        return 'folded', 'recompute=True'
    if device != 'cpu':
        return 'reference', f'the others are not measured on {device} yet'
    if not is_training:
        return 'reference', 'the fastest without gradients here'
    if inner > FOLDED_INNER:
        return 'reference', f'more than {FOLDED_INNER} channels in a group'
    if positions < FOLDED_POSITIONS:
        return 'reference', f'fewer than {FOLDED_POSITIONS} positions'
    return 'folded', f'{FOLDED_POSITIONS} positions or more'


def _obstacle(path: str, x: Tensor) -> Optional[str]:
    """Say why a path does not serve an input; None if it does."""
    if (
        torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return 'torch.func and forward-mode derivatives know its layers alone'
    if x.is_meta:
        return 'a meta tensor'
    if not x.numel():
        return 'an empty input'
    return GramSums.obstacle(x) if path == 'gram' else None


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _logger.info(text)
