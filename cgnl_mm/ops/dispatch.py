"""Which path computes a block, and why.

Chosen by the measurements of docs/performance.md, which
``tools/benchmark.py`` repeats; ``backend=`` of a block forces one.
"""

import logging
import math
from typing import Callable, Optional

import torch
from torch import Tensor

BACKENDS = ('auto', 'reference', 'folded', 'triton')
# Positions from which on the folded path is the faster one on a CPU. Without
# gradients it saves fewer passes, and oneDNN's convolutions are ahead longer.
TRAINING, INFERENCE = 512, 8192

_logger = logging.getLogger('cgnl_mm')
_said = set()


def choose(
    backend: str,
    find_obstacle: Callable[[], Optional[str]],
    x: Tensor,
    inner: int,
    recompute: bool = False,
) -> str:
    """Choose the path of one call.

    Args:
        backend (str): One of :data:`BACKENDS`.
        find_obstacle (Callable): Says why the block cannot be folded.
        x (Tensor): The block's input.
        inner (int): Inner channels of a group, C' / G.
        recompute (bool): Whether memory goes before time. Defaults to False.

    Returns:
        str: 'reference', 'folded' or 'triton'.

    Raises:
        RuntimeError: If a path is forced, but cannot be taken.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        # the compiler fuses the reference; exporters know its operators
        return 'reference'
    if backend == 'reference':
        return backend
    obstacle = find_obstacle()
    if backend == 'triton' and not obstacle:
        from . import passes_triton  # imports triton

        obstacle = passes_triton.supported(x, inner)
    if backend != 'auto' and obstacle:
        raise RuntimeError(
            f"backend='{backend}' does not serve: {obstacle}; use 'auto' or "
            "'reference'"
        )
    if backend != 'auto':
        return backend
    if obstacle:
        reason = obstacle
    elif recompute:
        return 'folded'
    elif x.device.type != 'cpu':
        reason = f'the others are not measured on {x.device.type} yet'
    else:
        positions = math.prod(x.shape[2:])
        enough = TRAINING if torch.is_grad_enabled() else INFERENCE
        return 'folded' if positions >= enough else 'reference'
    _say_once(f'CGNL runs its reference path: {reason}')
    return 'reference'


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _logger.info(text)

