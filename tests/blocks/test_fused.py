"""The folded paths round no more than the layers do."""

import contextlib
import copy

import pytest
import torch

from cgnl_mm import CGNL2d
from cgnl_mm.ops.fused.moments import GramSums, MapSums

BN = dict(type='BN')


def run(block, x, d, dtype=None):
    """Output and every gradient."""
    leaf = x.clone().requires_grad_()
    mixed = contextlib.nullcontext()
    if dtype is not None:
        mixed = torch.autocast('cpu', dtype=dtype)
    with mixed:
        out = block(leaf)
    parameters = dict(block.named_parameters())
    gradients = torch.autograd.grad(out, [leaf, *parameters.values()], d)
    return dict(zip(['out', 'x', *parameters], [out.detach(), *gradients]))


def errors(channels, size, offset=0.0, dtype=None, norm_cfg=None):
    """Relative errors of the layers and of the folded path."""
    block = CGNL2d(
        channels, norm_cfg=norm_cfg, backend='reference', zero_init=False
    )
    folded = copy.deepcopy(block)
    folded.backend = 'folded'
    x = torch.randn(2, channels, size, size).relu() + offset
    d = torch.randn_like(x)
    truth = run(copy.deepcopy(block).double(), x.double(), d.double())
    found = [run(b, x, d, dtype) for b in (block, folded)]
    return {
        name: [((one[name] - t).norm() / t.norm()).item() for one in found]
        for name, t in truth.items()
    }


@pytest.mark.parametrize('norm_cfg', [None, BN], ids=['GN', 'BN'])
def test_float32(norm_cfg):
    """Sums over 131,072 values and more."""
    for name, (layers, folded) in errors(256, 64, norm_cfg=norm_cfg).items():
        assert folded <= 2 * layers + 1e-6, name


@pytest.mark.pairs(
    {
        'dtype': [torch.bfloat16, torch.float16],
        'offset': [0.0, 3.0],
        'norm_cfg': [None, BN],
    }
)
def test_half_precision(dtype, offset, norm_cfg):
    """Also where the mean of the input is larger than its deviation."""
    found = errors(128, 16, offset, dtype, norm_cfg)
    # W_z theta cancels under that mean: there the layers round more by far
    for name in ('out', 'x', 'theta.weight', 'conv_out.weight'):
        layers, folded = found[name]
        assert folded <= 2 * layers + 1e-6, (name, layers, folded)


def test_float16_of_a_gradient_below_its_range():
    """Alone; its products with the maps are within."""
    x, (phi, g) = torch.rand(1, 16, 50) + 1, torch.rand(2, 8, 16) + 4
    d_sums = [torch.full((4,), 1e-8)]
    way, found = MapSums(4, [1], False), []
    for dtype in (torch.float32, torch.float16):
        tensors = [t.to(dtype) for t in (x, phi, g)]
        _, held = way.forward(*tensors)
        found.append(way.backward(*tensors, held, d_sums, None))
    for truth, half in zip(*found):
        torch.testing.assert_close(half.float(), truth, rtol=0.1, atol=0)


@pytest.mark.parametrize('offset', [10.0, 100.0])
def test_gram_under_a_mean_that_the_weights_ignore(offset):
    x = torch.randn(1, 64, 3136) + offset
    phi, g = 0.1 * torch.randn(2, 32, 64)
    phi, g = (w - w.mean(1, keepdim=True) for w in (phi, g))
    ways = MapSums(4, [1], True), GramSums(4)

    def gradients(way, *tensors):
        _, held = way.forward(*tensors)
        ones = [tensors[0].new_ones(4)]
        return torch.stack(way.backward(*tensors, held, ones, None))

    truth = gradients(ways[0], x.double(), phi.double(), g.double())
    maps, gram = (
        (gradients(way, x, phi, g) - truth).abs().max() for way in ways
    )
    assert gram < 2 * maps


@pytest.mark.parametrize(
    'norm_cfg', [None, BN, dict(type='IN', affine=True)], ids=str
)
def test_channels_that_w_z_cancels(norm_cfg):
    """Their part of the variance is rounded to less than nothing."""
    block = CGNL2d(
        64, groups=4, norm_cfg=norm_cfg, backend='folded', init_std=0.1,
        zero_init=False,
    )  # fmt: skip
    with torch.no_grad():
        block.theta.weight.add_(1e3 * torch.randn(1, 64, 1, 1))
        z = block.conv_out.weight
        z.sub_(z.mean(1, keepdim=True))
    x = torch.randn(2, 64, 24, 24).relu()
    for name, value in run(block, x, torch.randn_like(x)).items():
        assert value.isfinite().all(), name
