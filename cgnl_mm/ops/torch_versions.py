"""Differences between the PyTorch versions that this project supports."""

import re
from typing import Optional

import torch

# (2, 14) for 2.14.1 and also for 2.14.0a0, which comes before 2.14.
TORCH = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))

# FSDP without a GPU, which few want, names its version itself.
MISSING_BEFORE = (
    ((2, 4), 'tools/get_flops.py cannot count'),
    (
        (2, 6),
        'tools/export.py does not run, '
        'tools/convert_checkpoint.py cannot read numbers of numpy, and '
        'checkpoints are unpickled, which runs what is in them: load none of '
        'a stranger',
    ),
)


def missing(version: tuple[int, ...] = TORCH) -> str:
    """Return what a PyTorch version lacks, or '' for a new one."""
    return '; '.join(text for first, text in MISSING_BEFORE if version < first)


def is_compiling() -> bool:
    """Return whether torch.compile or torch.export traces this call."""
    if TORCH < (2, 3):
        return torch._dynamo.is_compiling()
    return torch.compiler.is_compiling()


def autocast_dtype(device: str) -> Optional[torch.dtype]:
    """Return the type of mixed precision on a device type, or None."""
    if device == 'meta':
        return None  # PyTorch knows no mixed precision there.
    if TORCH >= (2, 4):
        is_on = torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if is_on else None
    if device == 'cpu':
        is_on = torch.is_autocast_cpu_enabled()
        return torch.get_autocast_cpu_dtype() if is_on else None
    return (
        torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    )


def release_saved(ctx: torch.autograd.function.FunctionCtx) -> None:
    """Let go of what a function has saved, unless its graph is kept.

    A backward pass calls it, so that the maps that it has used up do not add
    to its peak memory. PyTorch would free all of them at its end.
    """
    if hasattr(ctx, 'maybe_clear_saved_tensors'):  # PyTorch's own compiler's
        ctx.maybe_clear_saved_tensors()
