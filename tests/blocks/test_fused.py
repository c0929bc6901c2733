"""The folded paths round no more than the layers do."""

import copy

import pytest
import torch
from samples import BN, NORMS, results
from torch.utils._python_dispatch import TorchDispatchMode

from cgnl_mm import CGNL2d
from cgnl_mm.benchmark import traffic
from cgnl_mm.ops.accuracy import assert_as_exact


def check_float32(block, x, path):
    d = torch.randn_like(x)
    wide = copy.deepcopy(block).double()
    truth = results(wide, x.double(), d.double())
    found = []
    for block.backend in (path, 'reference'):
        found.append(results(block, x, d))
    assert_as_exact(*found, truth, slack=1e-6, order=2)


@pytest.mark.parametrize('norm_cfg', [None, BN], ids=['GN', 'BN'])
def test_float32(norm_cfg):
    """Sums over 131,072 values and more."""
    block = CGNL2d(256, norm_cfg=norm_cfg, norm_weight=1.0)
    check_float32(block, torch.randn(2, 256, 64, 64).relu(), 'folded')


@pytest.mark.parametrize('norm', ['default', 'BN'])
@pytest.mark.parametrize('mode', ['gaussian_rbf', 'embedded_gaussian'])
def test_constant_term_that_drowns_the_others(mode, norm):
    """It is up to a million times larger, and the norm cancels most of it."""
    block = CGNL2d(64, mode=mode, norm_cfg=NORMS[norm], norm_weight=1.0)
    check_float32(block, torch.randn(2, 64, 28, 28).relu(), 'folded')


@pytest.mark.parametrize('path', ['folded', 'gram'])
def test_backward_twice(path):
    """What the first one has used up is there again, if the graph is kept."""
    block = CGNL2d(32, 4, backend=path, norm_weight=1.0)
    out = block(torch.randn(2, 32, 8, 8)).sum()
    leaves = list(block.parameters())
    first = torch.autograd.grad(out, leaves, retain_graph=True)
    second = torch.autograd.grad(out, leaves)
    assert all(map(torch.equal, first, second))
    with pytest.raises(RuntimeError, match='a second time'):
        out.backward()


class Largest(TorchDispatchMode):
    """Note the bytes of the largest tensor."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in traffic.tensors_in(out):
            self.found = max(self.found, traffic.unique_bytes(tensor))
        return out


@pytest.mark.parametrize('path', ['folded', 'gram'])
def test_no_weights_gradient_of_each_sample(path):
    """A tensor (B, C', C) would be 8 times as large as x."""
    block = CGNL2d(64, 16, backend=path)
    x = torch.randn(64, 64, 2, 2, requires_grad=True)
    with Largest() as largest:
        block(x).sum().backward()
    assert largest.found == x.nbytes


@pytest.mark.parametrize('norm', ['default', 'BN', 'IN'])
def test_channels_that_w_z_cancels(norm):
    """Their part of the variance is rounded to less than nothing."""
    block = CGNL2d(
        64, groups=4, norm_cfg=NORMS[norm], backend='folded', init_std=0.1,
        norm_weight=1.0,
    )  # fmt: skip
    with torch.no_grad():
        block.theta.weight.add_(1e3 * torch.randn(1, 64, 1, 1))
        z = block.conv_out.weight
        z.sub_(z.mean(1, keepdim=True))
    x = torch.randn(2, 64, 24, 24).relu()
    for name, value in results(block, x, torch.randn_like(x)).items():
        assert value.isfinite().all(), name


@pytest.mark.parametrize('path', ['folded', 'gram'])
@pytest.mark.parametrize('recompute', [False, True])
def test_what_is_kept_for_the_backward_pass(recompute, path):
    """x, and without recomputation theta, phi and g; else small tensors.

    With the Gram matrix theta, and without recomputation two small matrices a
    sample.
    """
    block = CGNL2d(32, 4, backend=path, recompute=recompute)
    x, kept = torch.randn(2, 32, 40, 40, requires_grad=True), {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        block(x)
    maps = 0 if recompute else (1 if path == 'gram' else 3) * x.nbytes // 2
    assert x.nbytes + maps <= sum(kept.values()) < 1.1 * x.nbytes + maps
