"""The block against its definition, on inputs that nobody thought of."""

import copy

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
    options['recompute'] = (
        draw(st.booleans()) and options['backend'] != 'reference'
    )
    options['use_scale'] = draw(st.booleans()) and options['mode'] != 'none'
    batch = draw(st.integers(1, 3))
    size = [draw(st.integers(1, 5)) for _ in range(rank)]
    layout = draw(st.sampled_from(('contiguous', 'channels last', 'strided')))
    return options, (batch, channels, *size), layout


def build(options, seed=0):
    torch.manual_seed(seed)
    options = dict(options)
    rank = options.pop('rank')
    block = BLOCKS[rank](**options, zero_init=False, init_std=0.4)
    if options['mode'] == 'learnable':
        with torch.no_grad():
            block.coefficients.uniform_(-0.5, 0.5)
    return block.double()


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
        size = theta[0, 0].numel() * theta.shape[1] // block.groups
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


@given(cases(), st.integers(0, 2**16))
def test_output_and_gradients_are_those_of_the_definition(case, seed):
    options, shape, layout = case
    options = dict(options, rank=len(shape) - 2)
    # torch's norms refuse a single value
    assume(torch.Size(shape[2:]).numel() * shape[0] > 1)
    block = build(options, seed)
    torch.manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64)
    d = torch.randn_like(x)
    truth, leaf = copy.deepcopy(block), x.clone().requires_grad_()
    leaves = dict(truth.named_parameters(), x=leaf)
    truth = output_and_gradients(literal(truth, leaf), d, leaves)
    x = lay(x, layout).detach().requires_grad_()
    leaves = dict(block.named_parameters(), x=x)
    found = output_and_gradients(block(x), d, leaves)
    for name, value in truth.items():
        error, size = (found[name] - value).abs().max(), value.abs().max()
        note(f'{name}: error {error}, size {size}')
        # A norm over a few numbers takes rounding up by 1 / sqrt(eps).
        assert error <= 1e-7 * size + 1e-8, name


@given(cases(), st.sampled_from(('float32', 'bfloat16', 'float16')))
def test_fresh_block_is_the_identity(case, dtype):
    options, shape, layout = case
    assume(torch.Size(shape[2:]).numel() * shape[0] > 1)
    dtype = getattr(torch, dtype)
    torch.manual_seed(0)
    block = BLOCKS[len(shape) - 2](**options).to(dtype)
    x = lay(torch.randn(shape).to(dtype), layout)
    assert torch.equal(block(x), x)


@given(cases(), st.sampled_from(('bfloat16', 'float16')))
@example(
    case=(
        dict(
            in_channels=4, groups=1, reduction=1, mode='dot_product',
            order=1, gamma=1e-4, norm_cfg=None, backend='folded',
            recompute=False, use_scale=False,
        ),
        (1, 4, 5),
        'contiguous',
    ),
    dtype='float16',
)  # fmt: skip
def test_half_precision_stays_finite(case, dtype):
    """Forward and backward, on the largest activations that are usual."""
    options, shape, layout = case
    positions = torch.Size(shape[2:]).numel()
    assume(positions * shape[0] > 1)
    # without a norm the sum is the output, and may not fit
    assume(options['norm_cfg'] is not False)
    torch.manual_seed(0)
    block = BLOCKS[len(shape) - 2](**options, zero_init=False)
    x = lay(30 * torch.randn(shape), layout).detach().requires_grad_()
    with torch.autocast('cpu', dtype=getattr(torch, dtype)):
        y = block(x)
    leaves = dict(block.named_parameters(), x=x)
    found = output_and_gradients(y, torch.ones_like(y), leaves)
    for name, value in found.items():
        assert value.isfinite().all(), name
