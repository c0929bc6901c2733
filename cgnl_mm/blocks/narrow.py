"""The reference path in half precision: narrow maps and float32 numbers.

The layers would round W_z y and its gradient, and the norm cancels nearly all
but the rounding. Here the attention enters the norm as numbers: one for the
amplitude of the map, one for the constant term of the series.
"""

import math
from typing import Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..ops.attention import to_accumulator
from ..ops.fused.plan import Norm
from ..ops.narrow import HALF
from ..ops.powers import moments, polynomial
from ..ops.scaled_norm import scaled_norm
from ..ops.series import split_powers
from ..ops.torch_versions import autocast_dtype, is_compiling
from .norm import collect_affine, plan_norm, update_statistics
from .obstacles import find_layer_obstacle, find_transform, is_half

# An amplitude of several powers that is lower counts as zero: its variance is
# far below the eps of a norm.
LEAST_AMPLITUDE = 1e-5
# From so many positions on, one convolution for three maps is faster on a CPU,
# too. Its weight's gradient needs a buffer, which counts below that, and where
# a batch has few positions for each channel.
JOINED_POSITIONS, JOINED_RATIO = 512, 4


def can_run_narrow(block: nn.Module, x: Tensor) -> bool:
    """Return whether :func:`run_narrow` serves a block and its input x."""
    return (
        is_half(x)
        and not (x.is_meta or x.numel() == 0)
        and not torch.jit.is_tracing()  # It knows the layers alone.
        and find_layer_obstacle(block) is None
        and find_transform() is None
    )


def run_narrow(block: nn.Module, x: Tensor) -> Tensor:
    """Compute x + norm(W_z y).

    Args:
        block (Module): A CGNL block.
        x (Tensor): (B, C, \\*spatial).

    Returns:
        Tensor: Same shape and type as x.
    """
    norm = plan_norm(block.norm, x)
    theta, *maps = _project(block, x)
    y, a, b = theta, None, None
    if maps:
        with torch.autocast(x.device.type, enabled=False):
            y, a, b = _attend(block, norm, x, theta, *maps)
    u = block.conv_out(y) if y.dtype in HALF else in_float32(block.conv_out, y)
    z = to_accumulator(block.conv_out.weight).flatten(1)
    if a is None:
        a = z.new_ones(len(x), block.groups)
    kappa = None if b is None else z.sum(1)
    affine = map(to_accumulator, collect_affine(block.norm, z))
    out, mean, var = scaled_norm(norm, x, u, affine, a, b, kappa)
    if norm.over_batch:
        update_statistics(block.norm, mean.flatten(), var.flatten(), x)
    return out


def _project(block: nn.Module, x: Tensor) -> Sequence[Tensor]:
    """Return the maps theta, phi and g, of one convolution where it pays."""
    if block.mode == 'none':
        return (block.theta(x),)
    layers = block.theta, block.phi, block.g
    weights = [layer.weight for layer in layers]
    # A compiler would hold on to the answer, and to the map's size with it.
    if not is_compiling() and x.is_cpu and _is_small(x):
        # Autocast would keep a copy of x for each layer.
        x = x.to(autocast_dtype('cpu') or x.dtype)
        return [layer(x) for layer in layers]
    return block.theta._conv_forward(x, torch.cat(weights), None).chunk(3, 1)


def _is_small(x: Tensor) -> bool:
    positions, least = math.prod(x.shape[2:]), JOINED_POSITIONS
    if torch.is_grad_enabled():
        least = max(least, JOINED_RATIO * x.shape[1] / len(x))
    return positions < least


def _attend(
    block: nn.Module, norm: Norm, x: Tensor, theta: Tensor, *maps: Tensor
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Return a map y and numbers a, b (B, G): the attention is a y + b."""
    scale = block.scale(math.prod(x.shape[2:]))
    terms = split_powers(block.coefficients)
    constant, b = terms.pop(0, None), None
    if constant is not None:
        b = _scale(_sum_of_g(block, x), constant, scale)
    if not terms:
        return theta, torch.zeros_like(b), b
    theta_rows, phi, g = (
        t.flatten(2).unflatten(1, (block.groups, -1)) for t in (theta, *maps)
    )
    factors = {
        p: _scale(moment.flatten(1), terms[p], scale)
        for p, moment in moments(phi, g, list(terms)).items()
    }
    if list(factors) == [1]:
        return theta, factors[1], b
    # The amplitude leaves the map, so that its gradient is exact. The ratios
    # have none along it.
    squares = sum(factor.square() for factor in factors.values())
    a = (squares + LEAST_AMPLITUDE**2).sqrt()
    ratios = {p: (f / a)[..., None, None] for p, f in factors.items()}
    # Powers of theta leave the range of float16. The gradient of a trained
    # coefficient, or of any behind a norm of single channels, cancels.
    is_trained = isinstance(block.coefficients, Tensor)
    by_channel = norm.mean is None and norm.groups == x.shape[1]
    is_wide = is_trained or by_channel or theta.dtype == torch.float16
    dtype = torch.float32 if is_wide else theta.dtype
    y = polynomial(ratios, theta_rows, dtype)
    return y.reshape(theta.shape), a, b


def _scale(moment: Tensor, term: Union[float, Tensor], scale: float) -> Tensor:
    """Return scale * term * moment (B, G)."""
    if isinstance(term, Tensor):
        return to_accumulator(term) * (scale * moment)
    return moment if scale * term == 1 else scale * term * moment


def _sum_of_g(block: nn.Module, x: Tensor) -> Tensor:
    """Return the sum (B, G) over the map g of each group.

    Its gradient is a constant map, whose rounding would not average out.
    """
    sums = x.flatten(2).sum(-1, dtype=torch.float32).unsqueeze(1)
    weight = to_accumulator(block.g.weight).flatten(1)
    return (sums * weight.unflatten(0, (block.groups, -1)).sum(1)).sum(-1)


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
        # Meta tensors have no mixed precision.
        device = 'cpu' if x.is_meta else x.device.type
        with torch.autocast(device, enabled=False):
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
