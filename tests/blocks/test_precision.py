"""Half precision of the whole block, on inputs that overflow a plain sum."""

import copy

import pytest
import torch
from samples import ATTENTIONS, BN, NORMS, results

from cgnl_mm import CGNL2d, CGNL3d


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


@pytest.mark.parametrize('norm', ['default', 'GN1', 'BN'])
@pytest.mark.parametrize('mode', ATTENTIONS)
def test_float16_gradients(mode, norm):
    """Finite, and of float64's direction, in every mode and norm."""
    block = CGNL2d(
        64, groups=4, mode=mode, gamma=1e-3, norm_cfg=NORMS[norm],
        norm_weight=1.0, init_std=0.1,
    )  # fmt: skip
    with torch.no_grad():
        block.phi.weight.copy_(block.g.weight)
    x = 10 * torch.randn(2, 64, 20, 20).relu()
    d = torch.randn_like(x)
    truth = results(copy.deepcopy(block).double(), x.double(), d.double())
    with torch.autocast('cpu', dtype=torch.float16):
        found = results(block, x, d)
    assert (found.pop('out') - truth['out']).abs().max() < 0.05
    for name, value in found.items():
        assert value.isfinite().all(), name
        # Those may be all cancellation: see the README of ops.
        if name not in ('phi.weight', 'g.weight'):
            pair = value.double().flatten(), truth[name].flatten()
            assert torch.cosine_similarity(*pair, dim=0) > 0.99, name


@pytest.mark.parametrize('mode', ATTENTIONS)
def test_half_keeps_its_parameters(mode):
    """Computing in float32 leaves a half block half."""
    block = CGNL2d(16, groups=4, mode=mode, norm_weight=1.0).half()
    x = torch.randn(2, 16, 5, 5).half()
    found = results(block, x, x)
    assert {t.dtype for t in found.values()} == {torch.float16}
    assert {t.dtype for t in block.state_dict().values()} == {torch.float16}


def test_half_batch_norm_tracks_statistics():
    wide = CGNL2d(16, init_std=0.3, norm_cfg=BN, groups=4, norm_weight=1.0)
    half = copy.deepcopy(wide).half()
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
