"""The block on a GPU: make test ARGS='-m gpu'."""

import copy
import functools

import pytest
import torch
from samples import NORMS, results

from cgnl_mm import CGNL2d
from cgnl_mm.ops.accuracy import assert_as_exact, errors

pytestmark = pytest.mark.gpu
DEVICE = 'cuda'
MODES = ('dot_product', 'embedded_gaussian', 'learnable', 'none')


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    """Products of float32 keep their digits."""
    for place in (torch.backends.cudnn, torch.backends.cuda.matmul):
        monkeypatch.setattr(place, 'allow_tf32', False)


@functools.lru_cache
def sample(mode, norm):
    """Make a block, an input, a gradient, the truth and a CPU's results."""
    torch.manual_seed(0)
    block = CGNL2d(
        64, groups=4, init_std=0.1, norm_weight=1.0, mode=mode,
        norm_cfg=NORMS[norm], backend='reference',
    )  # fmt: skip
    x = torch.randn(2, 64, 24, 24).relu()
    d = torch.randn_like(x)
    wide = copy.deepcopy(block).double()
    truth = results(wide, x.double(), d.double())
    return block, x, d, truth, results(block, x, d)


@pytest.mark.pairs(
    {
        'mode': MODES,
        'norm': ['default', 'BN'],
        'backend': ('auto', 'reference', 'folded'),
    }
)
def test_rounds_as_a_cpu_does(mode, norm, backend):
    """Where the norm cancels a gradient, both are noise."""
    block, x, d, truth, on_cpu = sample(mode, norm)
    block = copy.deepcopy(block).to(DEVICE)
    block.backend = backend
    found = results(block, x.to(DEVICE), d.to(DEVICE))
    assert_as_exact(found, on_cpu, truth, times=5, slack=1e-5, order=2)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(dtype):
    """Output and the gradients that no cancellation makes noise."""
    block, x, d, truth, _ = sample('dot_product', 'BN')
    block = copy.deepcopy(block).to(DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        found = results(block, x.to(DEVICE), d.to(DEVICE))
    judged = ('out', 'x', 'theta.weight', 'conv_out.weight')
    found = errors(found, {name: truth[name] for name in judged}, order=2)
    assert max(found.values()) < 0.05, found
