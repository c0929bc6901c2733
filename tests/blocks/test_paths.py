"""The block on its folded path: same results, and when it is not taken."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.blocks import cgnl
from cgnl_mm.blocks import paths as dispatch
from cgnl_mm.blocks.cgnl import MODES
from cgnl_mm.blocks.fused import obstacle

BLOCKS = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}
SIZES = {1: (35,), 2: (5, 7), 3: (3, 4, 5)}
NORMS = {
    'default': None,
    'GN1': dict(type='GN', num_groups=1),
    'BN': dict(type='BN'),
    'cumulative BN': dict(type='BN', momentum=None),
    'SyncBN': dict(type='SyncBN'),
    'IN': dict(type='IN', affine=True),
    'none': False,
}


def twins(rank=2, training=True, **options):
    """One block on both paths, in float64, no weight at its initial value."""
    block = BLOCKS[rank](
        32, groups=4, backend='reference', zero_init=False, **options
    )
    block = block.double().train(training)
    with torch.no_grad():
        for tensor in block.parameters():
            tensor.copy_(0.3 * torch.randn(tensor.shape))
        for name, tensor in block.named_buffers():
            if 'running' in name:
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    other = copy.deepcopy(block)
    other.backend = 'folded'
    return block, other


@pytest.mark.pairs(
    {
        'rank': BLOCKS,
        'mode, path': [*((m, 'folded') for m in MODES), (MODES[0], 'gram')],
        'norm': NORMS,
        'training': [True, False],
    }
)
def test_paths_agree(rank, mode, path, norm, training):
    """Outputs, gradients and running statistics."""
    training &= norm != 'SyncBN'  # an obstacle: see below
    blocks = twins(rank, training, mode=mode, norm_cfg=NORMS[norm], gamma=0.1)
    blocks[1].backend = path
    x = torch.randn(2, 32, *SIZES[rank], dtype=torch.float64)
    found = []
    for block in blocks:
        leaf = x.clone().requires_grad_()
        for _ in range(2):  # the second sees the statistics of the first
            out = block(leaf)
        out.square().sum().backward()
        gradients = {k: p.grad for k, p in block.named_parameters()}
        found.append(
            dict(gradients, out=out, x=leaf.grad, **block.state_dict())
        )
    reference, folded = found
    assert reference.keys() == folded.keys()
    for name, value in reference.items():
        assert torch.allclose(folded[name], value, 1e-6, 1e-9), name


@pytest.mark.pairs(
    dict(
        norm=[name for name in NORMS if name != 'SyncBN'],
        size=[(9, 7), (1, 5)],
        training=[True, False],
    )
)
def test_paths_agree_on_one_sample_in_channels_last(norm, size, training):
    """Where instance and batch norm's gradients are wrong in PyTorch 2.14."""
    blocks = twins(training=training, norm_cfg=NORMS[norm])
    x = torch.randn(1, 32, *size, dtype=torch.float64)
    d = torch.randn(1, x[0, 0].numel(), 32, dtype=torch.float64)
    layouts, found = (torch.channels_last, torch.contiguous_format), []
    for block in blocks:
        leaves = [x.clone(memory_format=f).requires_grad_() for f in layouts]
        for leaf in leaves:
            block(leaf).flatten(2).mT.backward(d)  # to tokens (B, S, C)
        gradients = [value.grad for value in (*leaves, *block.parameters())]
        found.append(gradients)
    for reference, folded in zip(*found):
        assert torch.allclose(folded, reference, 1e-6, 1e-9)


@pytest.mark.pairs(
    dict(
        mode=MODES,
        dtype=[torch.bfloat16, torch.float16],
        inside=[False, True],
    )
)
def test_autocast(mode, dtype, inside):
    reference, folded = (b.float() for b in twins(mode=mode, gamma=1e-3))
    x = torch.randn(2, 32, 9, 7).relu()
    truth = copy.deepcopy(reference).double()(x.double())
    errors = []
    for block in (reference, folded):
        with torch.autocast('cpu', dtype=dtype):
            out = block(x)
        assert out.dtype == torch.float32
        loss = out.square().mean()
        with torch.autocast('cpu', dtype=dtype, enabled=inside):
            loss.backward()
        for name, parameter in block.named_parameters():
            assert parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all(), name
        errors.append((out - truth).abs().max())
    assert errors[1] <= 2 * errors[0]


def test_recompute_changes_no_result():
    _, block = twins()
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    gradients = []
    for block.recompute in (False, True):
        block.zero_grad()
        block(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in block.parameters()])
    for kept, computed in zip(*gradients):
        assert torch.equal(kept, computed)


def path_of(block, x, monkeypatch):
    """Which path a call takes."""
    taken = []
    run = cgnl.run_folded

    def record(block, x, scale, path):
        taken.append(path)
        return run(block, x, scale, path)

    monkeypatch.setattr(cgnl, 'run_folded', record)
    block(x)
    return taken[0] if taken else 'reference'


def large():
    return torch.randn(1, 32, 48, 48)


def test_chosen_by_size(monkeypatch):
    block = CGNL2d(32, groups=4, mode='embedded_gaussian')
    x = large()
    few = x[..., :10]
    assert few[0, 0].numel() < dispatch.FOLDED_POSITIONS
    assert path_of(block, x, monkeypatch) == 'folded'
    assert path_of(block, few, monkeypatch) == 'reference'
    with torch.no_grad():
        assert path_of(block, x, monkeypatch) == 'reference'
    block.recompute = True
    assert path_of(block, few, monkeypatch) == 'folded'
    with torch.no_grad():  # nothing to recompute
        assert path_of(block, few, monkeypatch) == 'reference'


def test_large_groups_are_not_folded(monkeypatch):
    """Their covariances would cost more than they spare."""
    x = torch.randn(1, 260, 23, 23)
    in_two = CGNL2d(260, groups=2)
    assert in_two.inter_channels // 2 == dispatch.FOLDED_INNER + 1
    assert path_of(in_two, x, monkeypatch) == 'reference'
    assert path_of(CGNL2d(260, groups=13), x, monkeypatch) == 'folded'


def test_gram_is_chosen_where_positions_outnumber_channels(monkeypatch):
    block, x = CGNL2d(32, groups=4), large()
    fewer = x[..., :42]
    assert fewer[0, 0].numel() < dispatch.GRAM_POSITIONS
    assert path_of(block, x, monkeypatch) == 'gram'
    assert path_of(block, fewer, monkeypatch) == 'folded'
    with torch.no_grad():
        assert path_of(block, x, monkeypatch) == 'gram'
    with torch.autocast('cpu', torch.bfloat16):
        assert path_of(block, x, monkeypatch) == 'folded'
    half = copy.deepcopy(block).bfloat16()
    assert path_of(half, x.bfloat16(), monkeypatch) == 'folded'


@pytest.mark.parametrize(
    'is_training, a_channel, below',
    [
        (True, dispatch.GRAM_TRAINING, 'folded'),
        (False, dispatch.GRAM_INFERENCE, 'reference'),
    ],
)
def test_gram_needs_positions_for_each_channel(is_training, a_channel, below):
    channels = dispatch.GRAM_POSITIONS
    enough = torch.empty(1).expand(1, channels, a_channel, channels)
    fewer = enough[..., 1:]
    with torch.set_grad_enabled(is_training):
        for given, path in ((enough, 'gram'), (fewer, below)):
            chosen = dispatch.choose('auto', lambda path: None, given, 1)
            assert chosen == path


@pytest.mark.parametrize('mode', MODES[1:])
def test_gram_says_why_it_does_not_serve(mode):
    block = CGNL2d(32, groups=4, mode=mode, backend='gram')
    with pytest.raises(RuntimeError, match=f"'gram' does not.*{mode}"):
        block(large())


def test_gram_refuses_half_precision():
    block = CGNL2d(32, groups=4, backend='gram')
    with torch.autocast('cpu', torch.bfloat16):
        with pytest.raises(RuntimeError, match='autocast'):
            block(large())
    with pytest.raises(RuntimeError, match='torch.bfloat16 loses the sums'):
        block.bfloat16()(large().bfloat16())


def test_one_line_says_which_path_runs(monkeypatch, caplog):
    monkeypatch.setattr(dispatch, '_said', set())
    block, x = CGNL2d(32, groups=4), large()
    runner = MMLogger.get_instance('a runner')
    runner.addHandler(caplog.handler)
    try:
        for _ in range(2):
            block.backend = 'auto'
            block(x)
            block(x[..., :1])
            block.backend = 'folded'
            block(x)
    finally:
        MMLogger._instance_dict.pop('a runner')
    logged = [r for r in caplog.records if r.name == runner.name]
    assert [record.message for record in logged] == [
        'CGNL runs its gram path: 2048 positions or more',
        'CGNL runs its reference path: fewer than 512 positions',
        "CGNL runs its folded path: backend='folded'",
    ]


class RectifiedNorm(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x).relu()


def double(block):
    layer = block.theta
    layer.forward = lambda x: 2 * nn.Conv2d.forward(layer, x)


def put(name, make, *args, **kwargs):
    return lambda block: setattr(block, name, make(*args, **kwargs))


def hook(kind):
    return lambda block: getattr(block.phi, f'register_{kind}')(
        lambda *args: None
    )


@pytest.mark.parametrize(
    'change, message',
    [
        (hook('forward_hook'), 'hook'),
        (hook('forward_pre_hook'), 'hook'),
        (hook('full_backward_hook'), 'hook'),
        (hook('full_backward_pre_hook'), 'hook'),
        (double, 'a forward of its own'),
        (
            lambda block: setattr(block, 'g', nn.Sequential(block.g)),
            'Sequential in place of a convolution',
        ),
        (put('theta', nn.Conv2d, 32, 16, 1), 'theta is a convolution with a'),
        (
            put('phi', nn.Conv2d, 32, 16, 3, padding=1, bias=False),
            'phi is no 1x1 convolution',
        ),
        (
            put('g', nn.Conv2d, 32, 16, 1, groups=2, bias=False),
            'g is a convolution in 2 groups, not 1',
        ),
        (put('norm', nn.SyncBatchNorm, 32), 'SyncBN'),
        (put('norm', nn.LayerNorm, 48), 'the norm LayerNorm'),
        (put('norm', RectifiedNorm, 4, 32), 'the norm RectifiedNorm'),
        (
            put('norm', nn.InstanceNorm2d, 32, track_running_stats=True),
            'instance norm with running statistics',
        ),
    ],
)
def test_obstacles(change, message, monkeypatch, caplog):
    """'auto' takes the reference, saying so once; 'folded' is an error."""
    block = CGNL2d(32, groups=4)
    change(block)
    monkeypatch.setattr(dispatch, '_said', set())
    with pytest.raises(RuntimeError, match=f"'folded' does not.*{message}"):
        block.backend = 'folded'
        block(large())
    block.backend = 'auto'
    if message == 'SyncBN':  # its reference needs a GPU: choose alone
        assert message in obstacle(block, torch.zeros(1, 8, 2, 2), 'folded')
        return
    with caplog.at_level(logging.INFO, 'cgnl_mm'):
        assert path_of(block, large(), monkeypatch) == 'reference'
        block(large())
    (record,) = (r for r in caplog.records if r.name == 'cgnl_mm')
    assert message in record.message


def test_a_harmless_subclass_of_the_norm_is_folded(monkeypatch):
    class Named(nn.GroupNorm):
        pass

    block = CGNL2d(32, groups=4)
    block.norm = Named(4, 32)
    assert path_of(block, large(), monkeypatch) == 'gram'


@pytest.mark.parametrize('size', [6, 100])
def test_fused_batch_norm_changes_no_result(size):
    """mmcv's fuse_conv_bn gives W_z a bias and takes the norm away."""
    _, block = twins(training=False, norm_cfg=dict(type='BN'))
    block.backend = 'auto'
    x = torch.randn(1, 32, size, size, dtype=torch.float64)
    expected = block(x)
    fused = copy.deepcopy(block)
    fused.conv_out = fuse_conv_bn_eval(block.conv_out, block.norm)
    fused.norm = nn.Identity()
    assert torch.allclose(fused(x), expected, 1e-9, 1e-9)


def test_empty_batch():
    block = CGNL2d(32, groups=4, zero_init=False)
    x = torch.empty(0, 32, 48, 48, requires_grad=True)
    out = block(x)
    assert out.shape == x.shape
    out.sum().backward()


@pytest.mark.parametrize('norm', ['BN', 'IN', dict(type='GN', num_groups=8)])
def test_statistics_of_one_value_are_refused_as_by_the_norm(norm):
    norm_cfg = norm if isinstance(norm, dict) else dict(type=norm, affine=True)
    for path in ('reference', 'folded'):
        block = CGNL2d(8, groups=2, norm_cfg=norm_cfg, backend=path)
        with pytest.raises(ValueError, match='more than 1'):
            block(torch.randn(1, 8, 1, 1))


@pytest.mark.parametrize('recompute', [False, True])
def test_meta_tensors(recompute):
    block = CGNL2d(8, groups=2, recompute=recompute).to('meta')
    x = torch.empty(1, 8, 5, 5, device='meta')
    assert block(x).shape == x.shape


@pytest.mark.parametrize('norm', [None, False])
@pytest.mark.parametrize('path', ['folded', 'gram'])
def test_second_derivatives_are_refused(path, norm):
    """Not dropped, where they are not of the incoming gradient."""
    block = CGNL2d(16, groups=2, norm_cfg=norm, init_std=0.3, backend=path)
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    (first,) = torch.autograd.grad(block(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        first.square().sum().backward()
    # a graph that nobody uses harms nobody
    block(x).sum().backward(create_graph=True)
    assert x.grad is not None


def test_autocast_leaves_float64_alone():
    blocks = [
        CGNL2d(16, groups=2, init_std=0.3, zero_init=False, backend=path)
        for path in ('reference', 'folded')
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    x = torch.randn(2, 16, 8, 8).double()
    with torch.autocast('cpu', torch.bfloat16):
        expected, found = (block.double()(x) for block in blocks)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('change', [
    dict(track_running_stats=False),
    dict(num_batches_tracked=None),
    dict(num_batches_tracked=None, momentum=None),
])  # fmt: skip
def test_statistics_are_updated_as_by_batch_norm(change):
    found = []
    for path in ('reference', 'folded'):
        torch.manual_seed(0)
        block = CGNL2d(
            8, groups=2, init_std=0.3, norm_cfg=dict(type='BN'), backend=path
        )
        for name, value in change.items():
            setattr(block.norm, name, value)
        block(torch.randn(2, 8, 5, 5))
        found.append((block.norm.running_mean, block.norm.running_var))
    torch.testing.assert_close(*found)


def test_types_that_differ_fail_at_every_size():
    block = CGNL2d(16, groups=2)
    for size in (8, 24):
        with pytest.raises(RuntimeError, match='type'):
            block(torch.randn(2, 16, size, size).bfloat16())
    block.backend = 'folded'
    with pytest.raises(RuntimeError, match='bfloat16 and weights of'):
        block(torch.randn(2, 16, 8, 8).bfloat16())


def test_input_of_inference_mode_takes_the_reference():
    block = CGNL2d(16, groups=2)
    for name in ('theta', 'phi', 'g'):
        getattr(block, name).requires_grad_(False)
    with torch.inference_mode():
        x = torch.randn(2, 16, 24, 24)
    block(x).sum().backward()
    assert block.norm.weight.grad is not None


def test_torch_func_takes_the_reference():
    block = CGNL2d(32, groups=4, zero_init=False)
    x = large()

    def loss(x):
        return block(x).square().sum()

    leaf = x.clone().requires_grad_()
    loss(leaf).backward()
    assert torch.allclose(torch.func.grad(loss)(x), leaf.grad, 1e-3, 1e-3)
    _, slope = torch.func.jvp(loss, (x,), (torch.ones_like(x),))
    assert torch.allclose(slope, leaf.grad.sum(), 1e-3, 1e-1)


def test_running_statistics_that_change_before_backward():
    block = CGNL2d(32, groups=4, norm_cfg=dict(type='BN'), backend='folded')
    block.eval()
    out = block(large().requires_grad_())
    block.norm.running_var.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace'):
        out.sum().backward()


def test_tracing_takes_the_reference():
    """Exporters know its operators."""
    block = CGNL2d(32, groups=4, zero_init=False).eval()
    traced = torch.jit.trace(block, large())
    assert 'PythonOp' not in str(traced.inlined_graph)
    x = large()
    assert torch.allclose(traced(x), block(x), atol=1e-4)


@pytest.mark.parametrize('norm', ['default', 'BN', 'none'])
@pytest.mark.parametrize('mode', MODES)
def test_compiles_as_one_graph(mode, norm):
    torch._dynamo.reset()
    block = CGNL2d(
        32, groups=4, mode=mode, norm_cfg=NORMS[norm], zero_init=False
    ).eval()
    x = large()
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    assert torch.allclose(compiled(x), block(x), atol=1e-4)
    compiled(x).sum().backward()
    expected = copy.deepcopy(block)
    expected.backend = 'reference'
    expected.zero_grad()
    expected(x).sum().backward()
    for ours, theirs in zip(block.parameters(), expected.parameters()):
        assert torch.allclose(ours.grad, theirs.grad, 1e-3, 1e-2)
