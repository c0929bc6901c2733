"""Which path computes a block, why, and the call that runs it.

The path 'auto' follows the measurements of docs/performance.md, which
``tools/benchmark.py`` repeats.
"""

import logging
import math
from contextlib import nullcontext
from typing import Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops.torch_versions import is_compiling
from .fused import run_fused
from .norm import KeptStatistics
from .obstacles import find_gram_obstacle, find_obstacle, find_transform
from .reference import run_reference

PATHS = ('reference', 'folded', 'gram')
BACKENDS = ('auto', *PATHS)
# Thresholds measured on CPUs. From 512 positions on, and up to 64 channels in
# a group, 'folded' is as fast as 'reference' and keeps half as much memory.
FOLDED_POSITIONS, FOLDED_INNER = 512, 64
# 'gram' pays from so many positions on, and from so many for each channel. It
# spares fewer products without gradients.
GRAM_POSITIONS, GRAM_TRAINING, GRAM_INFERENCE = 2048, 2, 6

_logger = logging.getLogger('cgnl_mm')
_said = set()


def run(block: nn.Module, x: Tensor, path: str) -> Tensor:
    """Compute a block for the input x on one of :data:`PATHS`."""
    if path != 'reference':
        return run_fused(block, x, use_gram=path == 'gram')
    if not block.recompute or not _can_checkpoint():
        return run_reference(block, x)
    return checkpoint(
        run_reference, block, x, use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), KeptStatistics(block.norm)),
    )  # fmt: skip


def _can_checkpoint() -> bool:
    # A compiler decides by itself what it computes again.
    is_traced = is_compiling() or torch.jit.is_tracing()
    return torch.is_grad_enabled() and not is_traced and not find_transform()


def choose(block: nn.Module, x: Tensor) -> str:
    """Choose the path of a block for the input x, and log a new choice.

    Returns:
        str: One of :data:`PATHS`.

    Raises:
        RuntimeError: If ``block.backend`` names a path that cannot run.
    """
    if is_compiling() or torch.jit.is_tracing():
        # Compilers fuse the reference, and exporters know its operators.
        return 'reference'
    path, reason = block.backend, f"backend='{block.backend}'"
    if path == 'auto':
        path, reason = _choose_auto(block, x)
    elif obstacle := find_obstacle(block, x, path):
        raise RuntimeError(
            f"backend='{path}' cannot run: {obstacle}; use 'auto' or "
            "'reference'"
        )
    text = f'CGNL runs its {path} path: {reason}'
    if text not in _said:
        _said.add(text)
        _logger.info(text)
    return path


def _choose_auto(block: nn.Module, x: Tensor) -> Tuple[str, str]:
    """Return the path of backend='auto', and the reason."""
    if obstacle := find_obstacle(block, x, 'folded'):
        return 'reference', obstacle
    if not x.is_cpu:
        return 'reference', f'the others move more memory on {x.device.type}'
    is_training, positions = torch.is_grad_enabled(), math.prod(x.shape[2:])
    limit = GRAM_TRAINING if is_training else GRAM_INFERENCE
    limit = max(limit * x.shape[1], GRAM_POSITIONS)
    if positions >= limit and not find_gram_obstacle(block, x):
        return 'gram', f'{limit} positions or more'
    if block.recompute and is_training:
        return 'folded', 'recompute=True'
    if not is_training:
        return 'reference', 'the fastest without gradients here'
    if block.inter_channels // block.groups > FOLDED_INNER:
        return 'reference', f'more than {FOLDED_INNER} channels in a group'
    if positions < FOLDED_POSITIONS:
        return 'reference', f'fewer than {FOLDED_POSITIONS} positions'
    return 'folded', f'{FOLDED_POSITIONS} positions or more'
