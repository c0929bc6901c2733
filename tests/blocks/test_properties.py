"""The block against its definition, on inputs that nobody thought of."""

import copy
import math

import torch
from hypothesis import assume, example, given, note
from hypothesis import strategies as st
from samples import BLOCKS, BN
from torch.nn import functional as F

from cgnl_mm.blocks.settings import MODES
from cgnl_mm.ops import generalized_nonlocal
from cgnl_mm.ops.accuracy import output_and_gradients

NORMS = (None, False, dict(type='GN', num_groups=1), BN)


@st.composite
def cases(draw):
    """Options of a block, an input shape and how the input lies in memory."""
    rank = draw(st.sampled_from(sorted(BLOCKS)))
    groups = draw(st.integers(1, 4))
    reduction = draw(st.integers(1, 3))
    inter = groups * draw(st.integers(1, 4))
    channels = inter * reduction
    norm_cfg = draw(st.sampled_from(NORMS))
    options = dict(
        in_channels=channels,
        groups=groups,
        reduction=reduction,
        mode=draw(st.sampled_from(MODES)),
        order=draw(st.integers(1, 4)),
        gamma=draw(st.sampled_from((1e-4, 0.1, 1.0))),
        norm_cfg=norm_cfg,
        backend=draw(st.sampled_from(('reference', 'folded', 'auto'))),
    )
    options['recompute'] = draw(st.booleans())
    options['use_scale'] = draw(st.booleans()) and options['mode'] != 'none'
    batch = draw(st.integers(1, 3))
    size = [draw(st.integers(1, 5)) for _ in range(rank)]
    layout = draw(st.sampled_from(('contiguous', 'channels last', 'strided')))
    return options, (batch, channels, *size), layout


def build(options, shape, **init):
    torch.manual_seed(0)
    # torch's norms refuse a single value
    assume(math.prod(shape[2:]) * shape[0] > 1)
    return BLOCKS[len(shape) - 2](**options, norm_weight=1.0, **init)


def lay(x, layout):
    """The same numbers, elsewhere in memory."""
    if layout == 'channels last':
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == 'strided':
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), float('nan'))
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def literal(block, x):
    """Compute the definition, with the affinity of all pairs of positions."""
    conv = [None, F.conv1d, F.conv2d, F.conv3d][x.dim() - 2]
    theta = conv(x, block.theta.weight)
    y = theta
    if block.mode != 'none':
        size = theta[0].numel() // block.groups
        y = generalized_nonlocal(
            theta,
            conv(x, block.phi.weight),
            conv(x, block.g.weight),
            block.coefficients,
            block.groups,
            scale=size**-0.5 if block.use_scale else 1.0,
        )
    u = conv(y, block.conv_out.weight, groups=block.groups)
    return block.norm(u) + x


def measure(block, x, d, function):
    x = x.detach().requires_grad_()
    leaves = dict(block.named_parameters(), x=x)
    return output_and_gradients(function(block, x), d, leaves)


@given(cases(), st.integers(0, 2**16))
def test_output_and_gradients_are_those_of_the_definition(case, seed):
    options, shape, layout = case
    block = build(options, shape, init_std=0.4).double()
    torch.manual_seed(seed)
    if options['mode'] == 'learnable':
        block.coefficients.data.uniform_(-0.5, 0.5)
    x, d = torch.randn(2, *shape, dtype=torch.float64)
    truth = measure(copy.deepcopy(block), x, d, literal)
    found = measure(block, lay(x, layout), d, type(block).__call__)
    for name, value in truth.items():
        error, size = (found[name] - value).abs().max(), value.abs().max()
        note(f'{name}: error {error}, size {size}')
        # A norm over a few numbers takes rounding up by 1 / sqrt(eps).
        assert error <= 1e-7 * size + 1e-8, name


@given(cases(), st.sampled_from(('bfloat16', 'float16')))
@example(
    case=(dict(in_channels=4, groups=1, reduction=1), (1, 4, 5), ''),
    dtype='float16',
)
def test_half_precision_stays_finite(case, dtype):
    """Forward and backward, on the largest activations that are usual."""
    options, shape, layout = case
    # Without a norm, the sum is the output, and may not fit.
    assume(options.get('norm_cfg') is not False)
    block = build({**options, 'backend': 'auto'}, shape)
    x = lay(30 * torch.randn(shape), layout)
    with torch.autocast('cpu', dtype=getattr(torch, dtype)):
        found = measure(block, x, torch.ones_like(x), type(block).__call__)
    for name, value in found.items():
        assert value.isfinite().all(), name
