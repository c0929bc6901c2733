"""State dicts, copies, traces and graphs are the same function."""

import copy
import pickle

import pytest
import torch

from cgnl_mm import CGNL2d, CGNL3d

# GroupNorm would cancel use_scale
OPTIONS = [
    dict(mode='dot_product'),
    dict(mode='learnable', use_scale=True, norm_cfg=False),
    dict(mode='gaussian_rbf', gamma=0.2, norm_cfg=dict(type='BN')),
    dict(mode='embedded_gaussian', norm_cfg=dict(type='GN', num_groups=1)),
]


def trained(cls=CGNL2d, **options):
    """Every number away from its start, running statistics included."""
    block = cls(16, groups=4, **options)
    with torch.no_grad():
        for tensor in block.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) * 0.5 + 0.1)
    return block.eval()


def different_input():
    return torch.randn(3, 16, 7, 4)


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_state_dict_round_trip(options, tmp_path):
    block = trained(**options)
    torch.save(block.state_dict(), tmp_path / 'block.pth')
    state = torch.load(tmp_path / 'block.pth', weights_only=True)
    other = CGNL2d(16, groups=4, **options).eval()
    x = different_input()
    assert not torch.equal(other(x), block(x))
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(x), block(x))


@pytest.mark.parametrize(
    'clone',
    [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))],
    ids=['deepcopy', 'pickle'],
)
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_copies(options, clone):
    block = trained(**options)
    other = clone(block)
    x = different_input()
    y = block(x)
    assert torch.equal(other(x), y)
    with torch.no_grad():
        other.conv_out.weight.neg_()
    assert torch.equal(block(x), y)  # the copy shares nothing
    assert not torch.equal(other(x), y)


@pytest.mark.parametrize('half', [False, True], ids=['float32', 'float16'])
def test_compile_fullgraph(half):
    block = trained(CGNL3d, mode='learnable', use_scale=True)
    x = torch.randn(2, 16, 2, 3, 3)
    if half:
        block, x = block.half(), x.half()
    y, grad_y = block(x), torch.randn_like(x)
    y.backward(grad_y)
    grads = {n: p.grad for n, p in block.named_parameters()}
    block.zero_grad()
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    compiled(x).backward(grad_y)
    torch.testing.assert_close(compiled(x), y)
    torch.testing.assert_close(
        {n: p.grad for n, p in block.named_parameters()}, grads
    )


# Traced at one size and run at another: nothing of the size, use_scale's
# factor above all, may be baked in.


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_jit_trace(options):
    block = trained(**options)
    traced = torch.jit.trace(block, torch.randn(2, 16, 5, 5))
    x = different_input()
    torch.testing.assert_close(traced(x), block(x))


@pytest.mark.skipif(
    not hasattr(torch.export, 'Dim'), reason='torch is too old'
)
@pytest.mark.parametrize('options', OPTIONS[:2], ids=str)
def test_export(options):
    block = trained(**options)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        block,
        (torch.randn(2, 16, 5, 6),),
        dynamic_shapes={'x': {0: dynamic, 2: dynamic, 3: dynamic}},
    )
    x = different_input()
    torch.testing.assert_close(program.module()(x), block(x))
