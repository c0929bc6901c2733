"""Layers that compute in float32 inside a half-precision network."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..ops.narrow import HALF


def in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module on a float32 input, even if its weights are narrow.

    Args:
        module (nn.Module): A layer, whose parameters keep their type.
        x (Tensor): Float32 input.

    Returns:
        Tensor: Float32 output.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wide = {k: t.float() if t.dtype in HALF else t for k, t in own.items()}
    # FSDP also sets its gathered weights as attributes, which would win.
    hidden = {k: module.__dict__.pop(k) for k in own if k in module.__dict__}
    try:
        with torch.autocast(x.device.type, enabled=False):
            if all(wide[k] is t for k, t in own.items()):
                return module(x)
            y = functional_call(module, wide, (x,))
    finally:
        if hidden:  # The compiler of torch 2.11 cannot trace an update.
            module.__dict__.update(hidden)
    with torch.no_grad():
        # The running statistics were written to the copies.
        for name, buffer in module.named_buffers():
            if wide[name] is not buffer:
                buffer.copy_(wide[name])
    return y
