"""What older PyTorch has under other names."""

import re
from typing import Optional

import torch

# (2, 14) for 2.14.1 and for 2.14.0a0, which comes before 2.14
TORCH = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))

# what does not work before a version, whatever one does with the project;
# FSDP without a GPU, which few want, says so itself
MISSING_BEFORE = (
    ((2, 1), 'it is older than all that the project is tested with'),
    ((2, 4), 'tools/get_flops.py cannot count'),
    (
        (2, 6),
        'tools/export.py writes TorchScript alone, '
        'tools/convert_checkpoint.py cannot read numbers of numpy, and '
        'checkpoints are unpickled, which runs what is in them: load none of '
        'a stranger',
    ),
)


def missing(version: tuple[int, int] = TORCH) -> str:
    """Return what a PyTorch lacks, in words; nothing for a new one."""
    return '; '.join(text for first, text in MISSING_BEFORE if version < first)


if hasattr(torch.compiler, 'is_compiling'):
    is_compiling = torch.compiler.is_compiling
else:  # torch < 2.3

    def is_compiling() -> bool:
        return torch._dynamo.is_compiling()


def autocast_dtype(device: str) -> Optional[torch.dtype]:
    """Type of mixed precision on a kind of device; None where it is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        is_on = torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if is_on else None
    # torch < 2.4
    if device == 'cpu':
        is_on = torch.is_autocast_cpu_enabled()
        return torch.get_autocast_cpu_dtype() if is_on else None
    is_on = torch.is_autocast_enabled()
    return torch.get_autocast_gpu_dtype() if is_on else None
