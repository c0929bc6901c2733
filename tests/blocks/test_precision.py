"""Half precision of the whole block, on inputs that overflow a plain sum."""

import copy

import pytest
import torch
from samples import ATTENTIONS, BN, NORMS, results

from cgnl_mm import CGNL2d, CGNL3d
from cgnl_mm.blocks.settings import MODES
from cgnl_mm.ops.accuracy import assert_as_exact, errors


@pytest.mark.parametrize(
    ('dtype', 'autocast', 'tolerance'),
    [
        (torch.float16, True, 0.03),
        (torch.float16, False, 0.03),
        (torch.bfloat16, False, 0.25),
    ],
)
@torch.no_grad()
def test_close_to_float64(dtype, autocast, tolerance):
    """1x64x8x56x56 of magnitude 10: 1e5 products in the sum of a group."""
    block = CGNL3d(64, norm_weight=1.0, init_std=0.1)
    x = (10 * torch.randn(1, 64, 8, 56, 56).relu()).half().float()
    # all products of one sign, as in the worst case
    block.phi.weight.copy_(block.g.weight)
    sums = (block.g(x) ** 2).reshape(1, 8, -1).sum(-1)
    assert sums.half().isinf().all()
    truth = copy.deepcopy(block).double()(x.double())
    # beside x, which holds up to 50, the norm's output has unit variance
    assert (truth - x).std() > 0.9
    if not autocast:
        block, x = block.to(dtype), x.to(dtype)
    with torch.autocast('cpu', dtype, enabled=autocast):
        y = block(x)
    assert y.dtype == x.dtype
    assert (y - truth).abs().max() < tolerance


def assert_as_right(block, x, d, dtype):
    """Hold each result to the one rule of half precision.

    The floor is float64 arithmetic on the same rounded weights and maps, with
    gradients straight through the rounding; its results are rounded once.
    """
    wide = copy.deepcopy(block).double()
    wide.backend = 'reference'
    truth = results(wide, x.double(), d.double())
    with torch.autocast('cpu', dtype):
        found = results(block, x, d)
        for name, layer in wide.named_children():
            if name == 'norm':
                continue
            if name != 'conv_out':
                given = getattr(block, name)(x).double()
                layer.register_forward_hook(
                    lambda _, __, y, given=given: y + (given - y).detach()
                )
            layer.weight.data = layer.weight.to(dtype).double()
    floor = {
        name: value.to(x.dtype if name in ('out', 'x') else dtype)
        for name, value in results(wide, x.double(), d.double()).items()
    }
    slack = torch.finfo(dtype).eps / 4
    assert_as_exact(found, floor, truth, slack=slack, order=2)
    least = errors(floor, truth, order=2)
    for name, error in errors(found, truth, order=2).items():
        assert error < 0.1 or least[name] > 0.05, name


def make(mode, shape, std, norm='default', is_tied=False, **options):
    """Make a block whose norm has weights from 0.5 to 1.5."""
    block = CGNL2d(
        shape[1], mode=mode, norm_cfg=NORMS[norm.removesuffix(' eval')],
        init_std=std, norm_weight=1.0, **options,
    )  # fmt: skip
    with torch.no_grad():
        if norm != 'none':
            block.norm.weight.uniform_(0.5, 1.5)
        if is_tied:
            block.phi.weight.copy_(block.g.weight)
        if mode == 'learnable':
            block.coefficients.uniform_(-0.5, 0.5)
    return block.train(not norm.endswith('eval'))


def draw(shape, dtype):
    """Draw an input and a gradient that a half-precision type can hold."""
    x, d = torch.randn(shape).relu(), torch.randn(shape)
    return x.to(dtype), d.to(dtype)


DOT, RBF = 'dot_product', 'gaussian_rbf'
HALF = [torch.bfloat16, torch.float16]


@pytest.mark.pairs(
    {
        'mode, path': [
            *((mode, 'reference') for mode in MODES),
            *((mode, 'folded') for mode in (DOT, 'none')),
        ],
        'norm': ['default', 'GN1', 'BN', 'BN eval', 'IN', 'none'],
        'dtype': HALF,
        'shape, std': [
            ((2, 64, 7, 7), 0.1),
            ((4, 64, 14, 14), 0.03),
            ((1, 256, 14, 14), 0.05),
        ],
        'is_wide': [False, True],
    }
)
def test_every_gradient_is_right(mode, path, norm, dtype, shape, std, is_wide):
    """In every mode, norm and path; x may be float32 under autocast."""
    block = make(mode, shape, std, norm, backend=path)
    x, d = draw(shape, dtype)
    if is_wide:
        x, d = x.float(), d.float()
    assert_as_right(block, x, d, dtype)


@pytest.mark.parametrize(
    'dtype', [HALF[0], pytest.param(HALF[1], marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize(
    'mode, shape, std, is_tied',
    [
        (RBF, (4, 256, 28, 28), 0.01, False),
        (RBF, (2, 1024, 14, 14), 0.01, False),
        (DOT, (2, 1024, 14, 14), 0.03, False),
        (DOT, (4, 256, 28, 28), 0.01, True),
        pytest.param(
            DOT, (1, 64, 56, 56), 0.1, True, marks=pytest.mark.nightly
        ),
    ],
)
def test_gradients_where_layers_give_noise(mode, shape, std, is_tied, dtype):
    """The layers' gradients of phi and g were up to 500 times too large."""
    block = make(mode, shape, std, is_tied=is_tied, backend='reference')
    assert_as_right(block, *draw(shape, dtype), dtype)


def test_powers_that_leave_the_range_of_float16():
    """The cube of theta is up to 1e7."""
    block = make('embedded_gaussian', (1, 64, 5, 5), 0.1)
    x = 200 * torch.randn(1, 64, 5, 5)
    with torch.autocast('cpu', torch.float16):
        assert block.theta(x).abs().max() > 100
        assert block(x).isfinite().all()


@pytest.mark.parametrize('mode', [RBF, 'none'])
def test_layers_in_float32_where_no_number_serves(mode):
    """A hook sees its layer; a norm with a forward of its own is called."""
    block = make(mode, (2, 64, 7, 7), 0.1, 'BN', backend='reference')
    if mode == 'none':
        block.conv_out.register_forward_hook(lambda *_: None)
    else:
        block.norm.forward = block.norm.forward
    assert_as_right(block, *draw((2, 64, 7, 7), HALF[0]), HALF[0])


@pytest.mark.parametrize('mode', ATTENTIONS)
def test_half_keeps_its_parameters(mode):
    """Computing in float32 leaves a half block half."""
    block = CGNL2d(16, groups=4, mode=mode, norm_weight=1.0).half()
    x = torch.randn(2, 16, 5, 5).half()
    found = results(block, x, x)
    assert {t.dtype for t in found.values()} == {torch.float16}
    assert {t.dtype for t in block.state_dict().values()} == {torch.float16}


@pytest.mark.parametrize('has_hook', [False, True])
def test_half_batch_norm_tracks_statistics(has_hook):
    wide = CGNL2d(16, init_std=0.3, norm_cfg=BN, groups=4, norm_weight=1.0)
    half = copy.deepcopy(wide).half()
    if has_hook:  # Then the layer itself computes, in float32.
        half.norm.register_forward_hook(lambda *_: None)
    x = torch.randn(4, 16, 5, 5)
    wide(x)
    half(x.half())
    for found, expected in zip(half.norm.buffers(), wide.norm.buffers()):
        torch.testing.assert_close(
            found, expected, rtol=0.02, atol=0.02, check_dtype=False
        )


def test_hooks_see_every_layer():
    """In float16 too: pruning, profilers and visualisers hang on them."""
    block = CGNL2d(16, groups=4).half()
    seen = set()
    for name, child in block.named_children():
        child.register_forward_hook(lambda *_, name=name: seen.add(name))
    block(torch.randn(1, 16, 3, 3).half())
    assert seen == {'theta', 'phi', 'g', 'conv_out', 'norm'}


def test_weights_gathered_by_fsdp():
    """FSDP sets them as attributes beside the registered parameters."""
    block = CGNL2d(16, groups=4, norm_weight=1.0).half()
    x = torch.randn(2, 16, 5, 5).half()
    expected = block(x)
    for layer in (block.conv_out, block.norm):
        vars(layer)['weight'] = layer.weight.detach()
    assert torch.equal(block(x), expected)
    assert 'weight' in vars(block.norm)
