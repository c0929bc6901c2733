"""torch.compile: one graph, forward and backward, as exact as the layers."""

import copy
import shutil

import pytest
import torch
from samples import NORMS, SIZES, results, trained

from cgnl_mm.ops.accuracy import assert_as_exact

# The fast cases are in test_state.py, without Inductor.
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        shutil.which('g++') is None, reason='Inductor needs a C++ compiler'
    ),
]


@pytest.mark.parametrize(
    'mode, norm, rank, dtype',
    [
        ('dot_product', 'default', 2, torch.bfloat16),
        ('gaussian_rbf', 'BN', 3, torch.bfloat16),
        ('learnable', 'IN', 1, torch.bfloat16),
        ('none', 'GN1', 2, torch.bfloat16),
        ('dot_product', 'GN1', 2, torch.float32),
        ('embedded_gaussian', 'none', 2, torch.float32),
        ('learnable', 'BN', 1, torch.float32),
    ],
)
def test_inductor(mode, norm, rank, dtype):
    """Every mode, norm and rank once; the statistics of a batch norm too."""
    torch._dynamo.reset()
    block = trained(rank, std=0.1, mode=mode, norm_cfg=NORMS[norm])
    x = torch.randn(2, 16, *SIZES[rank]).to(dtype).float()
    d, found = torch.randn_like(x), []
    truth = results(copy.deepcopy(block).double(), x.double(), d.double())
    for compiled in (True, False):
        twin = copy.deepcopy(block)
        run = twin
        if compiled:
            run = torch.compile(twin, fullgraph=True, dynamic=False)
        with torch.autocast('cpu', dtype, dtype != torch.float32):
            got = results(run, x, d)
        got = {k.removeprefix('_orig_mod.'): v for k, v in got.items()}
        found.append({**got, **dict(twin.named_buffers())})
    slack = torch.finfo(dtype).eps
    assert_as_exact(*found, truth, slack=slack, order=2)
    for name, value in block.named_buffers():
        torch.testing.assert_close(
            found[0][name], found[1][name], rtol=1e-2, atol=1e-2
        )
        assert not torch.equal(found[0][name], value), name
