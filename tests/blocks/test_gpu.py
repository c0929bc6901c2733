"""The block on a GPU: make test ARGS='-m gpu'."""

import copy
import functools

import pytest
import torch

from cgnl_mm import CGNL2d

pytestmark = pytest.mark.gpu
DEVICE = 'cuda'
NORMS = {'GN': None, 'BN': dict(type='BN')}
MODES = ('dot_product', 'embedded_gaussian', 'learnable', 'none')


@pytest.fixture(autouse=True)
def no_tf32():
    """Products of float32 keep their digits."""
    places = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    yield
    for place, value in zip(places, before):
        place.allow_tf32 = value


def results(block, x, d):
    """Output and every gradient, in float64 on the CPU."""
    leaf = x.clone().requires_grad_()
    out = block(leaf)
    parameters = dict(block.named_parameters())
    gradients = torch.autograd.grad(out, [leaf, *parameters.values()], d)
    found = dict(zip(['out', 'x', *parameters], [out.detach(), *gradients]))
    return {name: value.cpu().double() for name, value in found.items()}


def make(**options):
    block = CGNL2d(64, groups=4, init_std=0.1, zero_init=False, **options)
    x = torch.randn(2, 64, 24, 24).relu()
    return block, x, torch.randn_like(x)


@functools.lru_cache
def truth(mode, norm):
    """A block, its input, the gradient of its output and what is right."""
    torch.manual_seed(0)
    block, x, d = make(mode=mode, norm_cfg=NORMS[norm])
    wide = copy.deepcopy(block).double()
    right = results(wide, x.double(), d.double())
    block.backend = 'reference'
    on_cpu = results(block, x, d)
    return block, x, d, right, errors(on_cpu, right)


def errors(found, right):
    """Return the relative error of each result by its name."""
    return {
        name: ((found[name] - value).norm() / value.norm()).item()
        for name, value in right.items()
    }


@pytest.mark.pairs(
    {'mode': MODES, 'norm': NORMS, 'backend': ('auto', 'reference', 'folded')}
)
def test_rounds_as_a_cpu_does(mode, norm, backend):
    """Where the norm cancels a gradient, both are noise."""
    block, x, d, right, allowed = truth(mode, norm)
    block = copy.deepcopy(block).to(DEVICE)
    block.backend = backend
    found = errors(results(block, x.to(DEVICE), d.to(DEVICE)), right)
    for name, error in found.items():
        assert error <= 5 * allowed[name] + 1e-5, (name, error, allowed[name])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(dtype):
    """Output and the gradients that no cancellation makes noise."""
    block, x, d, right, _ = truth('dot_product', 'BN')
    block = copy.deepcopy(block).to(DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        found = errors(results(block, x.to(DEVICE), d.to(DEVICE)), right)
    for name in ('out', 'x', 'theta.weight', 'conv_out.weight'):
        assert found[name] < 0.05, (name, found[name])
