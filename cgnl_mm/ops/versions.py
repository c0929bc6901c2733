"""What older PyTorch has under other names."""

import re
from typing import Optional

import torch

# (2, 14) for 2.14.1 and for 2.14.0a0, which comes before 2.14
TORCH = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))

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
