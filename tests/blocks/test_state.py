"""State dicts, copies, traces and graphs are the same function."""

import copy
import io
import pickle

import pytest
import torch
from samples import BN, NORMS, results, trained
from torch import nn

from cgnl_mm.blocks.settings import MODES

# GroupNorm would cancel use_scale.
OPTIONS = [
    dict(mode='dot_product'),
    dict(mode='learnable', use_scale=True, norm_cfg=False),
    dict(mode='gaussian_rbf', gamma=0.2, norm_cfg=BN),
    dict(mode='embedded_gaussian', norm_cfg=dict(type='GN', num_groups=1)),
]


def different_input():
    return torch.randn(3, 16, 24, 23)


def through_a_file(block):
    torch.save(block.state_dict(), file := io.BytesIO())
    file.seek(0)
    other = copy.deepcopy(block)
    for parameter in other.parameters():
        nn.init.ones_(parameter)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return other


@pytest.mark.parametrize(
    'clone',
    [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b)), through_a_file],
)
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_copies(options, clone):
    block = trained(**options).eval()
    other = clone(block)
    x = different_input()
    y = block(x)
    assert torch.equal(other(x), y)
    with torch.no_grad():
        other.conv_out.weight.neg_()
    assert torch.equal(block(x), y)  # The copy shares nothing.
    assert not torch.equal(other(x), y)


@pytest.mark.pairs(
    dict(
        mode=MODES,
        norm=['default', 'BN', 'none'],
        rank=[2, 3],
        dtype=[torch.float32, torch.float16, torch.bfloat16],
    )
)
def test_compiles_as_one_graph(mode, norm, rank, dtype):
    torch._dynamo.reset()
    options = dict(mode=mode, norm_cfg=NORMS[norm], use_scale=mode != 'none')
    block = trained(rank, std=0.1, **options).eval().to(dtype)
    x = torch.randn(2, 16, *(24, 22, 2)[:rank]).to(dtype)
    d = torch.randn_like(x)
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    found = results(compiled, x, d)
    block.backend = 'reference'
    for name, value in results(block, x, d).items():
        ours = found[name if name in found else f'_orig_mod.{name}']
        # A compiler may round the steps of a sum otherwise.
        eps = torch.finfo(dtype).eps
        slack = 1e-5 + eps * value.abs().max().item()
        torch.testing.assert_close(ours, value, rtol=10 * eps, atol=slack)


# Nothing of the size, above all the factor of use_scale, may be a constant of
# a graph that was made at another size.


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_jit_trace(options):
    block = trained(**options).eval()
    traced = torch.jit.trace(block, torch.randn(2, 16, 50, 50))
    # Exporters know the operators of the reference alone.
    assert 'PythonOp' not in str(traced.inlined_graph)
    x = different_input()
    torch.testing.assert_close(traced(x), block(x))


@pytest.mark.skipif(
    not hasattr(torch.export, 'Dim'), reason='torch is too old'
)
@pytest.mark.parametrize('options, dtype', [
    (OPTIONS[0], torch.float32),
    (OPTIONS[1], torch.float32),
    (OPTIONS[0], torch.bfloat16),
], ids=str)  # fmt: skip
@torch.no_grad()
def test_export(options, dtype):
    block = trained(**options).eval().to(dtype)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        block,
        (torch.randn(2, 16, 2, 2, dtype=dtype),),
        dynamic_shapes={'x': {0: dynamic, 2: dynamic, 3: dynamic}},
    )
    x = different_input().to(dtype)
    torch.testing.assert_close(program.module()(x), block(x))
