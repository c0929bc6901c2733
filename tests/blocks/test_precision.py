"""Half precision of the whole block, on inputs that overflow a plain sum."""

import copy

import pytest
import torch
from samples import ATTENTIONS, BN, NORMS, results

from cgnl_mm import CGNL2d, CGNL3d


def block_and_input(**options):
    """1x64x8x56x56 of magnitude 10: 1e5 products in the sum of a group."""
    block = CGNL3d(64, zero_init=False, init_std=0.1, **options)
    x = 10 * torch.randn(1, 64, 8, 56, 56).relu()
    with torch.no_grad():
        # all products of one sign, as in the worst case
        block.phi.weight.copy_(block.g.weight)
        sums = (block.g(x) ** 2).reshape(1, 8, -1).sum(-1)
    assert sums.half().isinf().all()
    return block, x.half().float()


@pytest.mark.parametrize('way', ['autocast', 'half', 'bfloat16'])
def test_close_to_float64(way):
    block, x = block_and_input()
    with torch.no_grad():
        truth = copy.deepcopy(block).double()(x.double())
        if way == 'autocast':
            with torch.autocast('cpu', dtype=torch.float16):
                y = block(x)
            assert y.dtype == torch.float32
        else:
            dtype = getattr(torch, {'half': 'float16'}.get(way, way))
            y = block.to(dtype)(x.to(dtype))
            assert y.dtype == dtype
    assert y.isfinite().all()
    # beside x, which holds up to 50, the norm's output has unit variance
    tolerance = 0.25 if way == 'bfloat16' else 0.03
    assert (y - truth).abs().max() < tolerance
    assert (truth - x).std() > 0.9


@pytest.mark.parametrize('norm', ['default', 'GN1', 'BN'])
@pytest.mark.parametrize('mode', ATTENTIONS)
def test_float16_gradients(mode, norm):
    """Finite, and of float64's direction, in every mode and norm."""
    block = CGNL2d(
        64, groups=4, mode=mode, gamma=1e-3, norm_cfg=NORMS[norm],
        zero_init=False, init_std=0.1,
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
            cosine = torch.cosine_similarity(*pair, dim=0)
            assert cosine > 0.99, (name, cosine)


@pytest.mark.parametrize('mode', ATTENTIONS)
def test_half_keeps_its_parameters(mode):
    """Computing in float32 leaves a half block half."""
    block = CGNL2d(16, groups=4, mode=mode, zero_init=False).half()
    x = torch.randn(2, 16, 5, 5).half()
    found = results(block, x, x)
    assert {t.dtype for t in found.values()} == {torch.float16}
    assert {t.dtype for t in block.state_dict().values()} == {torch.float16}


def test_half_batch_norm_tracks_statistics():
    wide = CGNL2d(16, init_std=0.3, norm_cfg=BN, groups=4, zero_init=False)
    half = copy.deepcopy(wide).half()
    x = torch.randn(4, 16, 5, 5)
    wide(x)
    half(x.half())
    for name in ('running_mean', 'running_var'):
        expected = getattr(wide.norm, name)
        torch.testing.assert_close(
            getattr(half.norm, name).float(), expected, rtol=0.02, atol=0.02
        )
    assert half.norm.num_batches_tracked == 1


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
    block = CGNL2d(16, groups=4, zero_init=False).half()
    x = torch.randn(2, 16, 5, 5).half()
    expected = block(x)
    for layer in (block.conv_out, block.norm):
        vars(layer)['weight'] = layer.weight.detach()
    assert torch.equal(block(x), expected)
    assert 'weight' in vars(block.norm)
