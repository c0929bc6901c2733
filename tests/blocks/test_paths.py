"""The paths give the same results, and each is taken where it can run."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from samples import BLOCKS, BN, NORMS, SIZES, results, trained
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cgnl_mm import CGNL2d
from cgnl_mm.blocks import paths
from cgnl_mm.blocks.settings import MODES
from cgnl_mm.ops.accuracy import assert_as_exact


def twins(rank=2, path='folded', **options):
    """One block on the reference path and on another, in float64."""
    block = trained(rank, 32, backend='reference', **options).double()
    other = copy.deepcopy(block)
    other.backend = path
    return block, other


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, 1e-6, 1e-9), name


@pytest.mark.pairs(
    {
        'rank': BLOCKS,
        'mode, path': [*((m, 'folded') for m in MODES), (MODES[0], 'gram')],
        'norm': NORMS,
        'training': [True, False],
    }
)
def test_paths_agree(rank, mode, path, norm, training):
    """Compare outputs, gradients and running statistics."""
    training &= norm != 'SyncBN'  # an obstacle: see below
    options = dict(mode=mode, norm_cfg=NORMS[norm], gamma=0.1)
    options['use_scale'] = mode != 'none'
    x = torch.randn(2, 32, *SIZES[rank], dtype=torch.float64)
    d, found = torch.randn_like(x), []
    for block in twins(rank, path, **options):
        block.train(training)
        block(x)  # The next call sees the statistics of this one.
        found.append({**results(block, x, d), **dict(block.named_buffers())})
    assert_same(*found)


@pytest.mark.pairs(
    dict(
        norm=[name for name in NORMS if name != 'SyncBN'],
        size=[(9, 7), (1, 5)],
        training=[True, False],
    )
)
def test_paths_agree_on_one_sample_in_channels_last(norm, size, training):
    """PyTorch 2.14 has wrong gradients of instance and batch norm here."""
    x = torch.randn(1, 32, *size, dtype=torch.float64)
    d = torch.randn(1, x[0, 0].numel(), 32, dtype=torch.float64)
    layouts, found = (torch.channels_last, torch.contiguous_format), []
    for block in twins(norm_cfg=NORMS[norm]):
        block.train(training)
        leaves = [x.clone(memory_format=f).requires_grad_() for f in layouts]
        for leaf in leaves:
            block(leaf).flatten(2).mT.backward(d)  # to tokens (B, S, C)
        gradients = [value.grad for value in (*leaves, *block.parameters())]
        found.append(dict(enumerate(gradients)))
    assert_same(*found)


@pytest.mark.pairs(
    dict(
        mode=MODES,
        dtype=[torch.bfloat16, torch.float16],
        inside=[False, True],
    )
)
def test_autocast(mode, dtype, inside):
    blocks = [block.float() for block in twins(mode=mode, gamma=1e-3)]
    x = torch.randn(2, 32, 9, 7).relu()
    found = []
    for block in blocks:
        with torch.autocast('cpu', dtype=dtype):
            out = block(x)
        assert out.dtype == torch.float32
        loss = out.square().mean()
        with torch.autocast('cpu', dtype=dtype, enabled=inside):
            loss.backward()
        for name, parameter in block.named_parameters():
            assert parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all(), name
        found.append(dict(out=out.detach()))
    truth = dict(out=blocks[0].double()(x.double()).detach())
    assert_as_exact(found[1], found[0], truth)


def test_recompute_changes_no_result():
    _, block = twins()
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    found = []
    for block.recompute in (False, True):
        found.append(results(block, x, x))
    assert all(
        torch.equal(found[0][name], found[1][name]) for name in found[0]
    )


def large():
    return torch.randn(1, 32, 48, 48)


def test_chosen_by_size():
    block = CGNL2d(32, groups=4, mode='embedded_gaussian')
    x = large()
    few = x[..., :10]
    assert few[0, 0].numel() < paths.FOLDED_POSITIONS
    assert paths.choose(block, x) == 'folded'
    assert paths.choose(block, few) == 'reference'
    with torch.no_grad():
        assert paths.choose(block, x) == 'reference'
    block.recompute = True
    assert paths.choose(block, few) == 'folded'
    with torch.no_grad():  # There is nothing to compute again.
        assert paths.choose(block, few) == 'reference'


def test_large_groups_are_not_folded():
    """Their covariances would cost more than they spare."""
    x = torch.randn(1, 260, 23, 23)
    in_two = CGNL2d(260, groups=2)
    assert in_two.inter_channels // 2 == paths.FOLDED_INNER + 1
    assert paths.choose(in_two, x) == 'reference'
    assert paths.choose(CGNL2d(260, groups=13), x) == 'folded'


def test_gram_is_chosen_where_positions_outnumber_channels():
    block, x = CGNL2d(32, groups=4), large()
    fewer = x[..., :42]
    assert fewer[0, 0].numel() < paths.GRAM_POSITIONS
    assert paths.choose(block, x) == 'gram'
    assert paths.choose(block, fewer) == 'folded'
    with torch.no_grad():
        assert paths.choose(block, x) == 'gram'
    with torch.autocast('cpu', torch.bfloat16):
        assert paths.choose(block, x) == 'folded'
    assert paths.choose(block.bfloat16(), x.bfloat16()) == 'folded'


@pytest.mark.parametrize(
    'is_training, a_channel, below',
    [
        (True, paths.GRAM_TRAINING, 'folded'),
        (False, paths.GRAM_INFERENCE, 'reference'),
    ],
)
def test_gram_needs_positions_for_each_channel(is_training, a_channel, below):
    channels = paths.GRAM_POSITIONS
    with torch.device('meta'):
        block = CGNL2d(channels, groups=channels // 2)
    enough = torch.empty(1).expand(1, channels, a_channel, channels)
    with torch.set_grad_enabled(is_training):
        assert paths.choose(block, enough) == 'gram'
        assert paths.choose(block, enough[..., 1:]) == below


@pytest.mark.parametrize('mode', MODES[1:])
def test_gram_says_why_it_cannot_run(mode):
    block = CGNL2d(32, groups=4, mode=mode, backend='gram')
    with pytest.raises(RuntimeError, match=f"'gram' cannot run.*{mode}"):
        block(large())


def test_gram_refuses_half_precision():
    block = CGNL2d(32, groups=4, backend='gram')
    with torch.autocast('cpu', torch.bfloat16):
        with pytest.raises(RuntimeError, match='autocast'):
            block(large())
    with pytest.raises(RuntimeError, match='torch.bfloat16 loses the sums'):
        block.bfloat16()(large().bfloat16())


def test_one_line_says_which_path_runs(monkeypatch, caplog):
    monkeypatch.setattr(paths, '_said', set())
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
        (put('g', nn.Sequential), 'g is not .* Sequential'),
        (put('theta', nn.Conv2d, 32, 16, 1), 'theta is not .* Conv2d.32'),
        (
            put('phi', nn.Conv2d, 32, 16, 3, padding=1, bias=False),
            'phi is not .* kernel_size=.3, 3.',
        ),
        (
            put('g', nn.Conv2d, 32, 16, 1, groups=2, bias=False),
            'g is not .* groups=2',
        ),
        (put('norm', nn.SyncBatchNorm, 32), 'SyncBN'),
        (put('norm', nn.LayerNorm, 48), 'of type LayerNorm'),
        (put('norm', RectifiedNorm, 4, 32), 'of type RectifiedNorm'),
        (
            put('norm', nn.InstanceNorm2d, 32, track_running_stats=True),
            'instance norm has running statistics',
        ),
    ],
)
def test_obstacles(change, message, monkeypatch, caplog):
    """'auto' takes the reference and says so once; 'folded' is an error."""
    block, x = CGNL2d(32, groups=4), large()
    change(block)
    monkeypatch.setattr(paths, '_said', set())
    with pytest.raises(RuntimeError, match=f"'folded' cannot run.*{message}"):
        block.backend = 'folded'
        block(x)
    block.backend = 'auto'
    with caplog.at_level(logging.INFO, 'cgnl_mm'):
        assert paths.choose(block, x) == 'reference'
        assert paths.choose(block, x) == 'reference'
    (record,) = (r for r in caplog.records if r.name == 'cgnl_mm')
    assert message.split(' .* ')[0] in record.message


def test_a_harmless_subclass_of_the_norm_is_folded():
    class Named(nn.GroupNorm):
        pass

    block = CGNL2d(32, groups=4)
    block.norm = Named(4, 32)
    assert paths.choose(block, large()) == 'gram'


@pytest.mark.parametrize('size', [6, 100])
def test_fused_batch_norm_changes_no_result(size):
    """mmcv's fuse_conv_bn gives W_z a bias and takes the norm away."""
    _, block = twins(path='auto', norm_cfg=BN)
    block.eval()
    x = torch.randn(1, 32, size, size, dtype=torch.float64)
    expected = block(x)
    fused = copy.deepcopy(block)
    fused.conv_out = fuse_conv_bn_eval(block.conv_out, block.norm)
    fused.norm = nn.Identity()
    assert torch.allclose(fused(x), expected, 1e-9, 1e-9)


@pytest.mark.parametrize('norm', ['BN', 'IN', dict(type='GN', num_groups=8)])
def test_statistics_of_one_value_are_refused_as_by_the_norm(norm):
    norm_cfg = norm if isinstance(norm, dict) else dict(type=norm, affine=True)
    for path in ('reference', 'folded'):
        block = CGNL2d(8, groups=2, norm_cfg=norm_cfg, backend=path)
        with pytest.raises(ValueError, match='more than 1'):
            block(torch.randn(1, 8, 1, 1))


@pytest.mark.parametrize('recompute', [False, True])
def test_inputs_without_values(recompute):
    """Meta tensors and empty batches take the reference."""
    block = CGNL2d(32, groups=4, recompute=recompute)
    x = torch.empty(0, 32, 48, 48, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.shape == x.shape
    x = large().to('meta')
    assert block.to('meta')(x).shape == x.shape


@pytest.mark.parametrize('norm', [None, False])
@pytest.mark.parametrize('path', ['folded', 'gram'])
def test_second_derivatives_are_refused(path, norm):
    """They are not dropped where the incoming gradient is a constant."""
    block = CGNL2d(16, groups=2, norm_cfg=norm, init_std=0.3, backend=path)
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    (first,) = torch.autograd.grad(block(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        first.square().sum().backward()
    # A graph that nobody uses harms nobody.
    block(x).sum().backward(create_graph=True)
    assert x.grad is not None


def test_autocast_leaves_float64_alone():
    x = torch.randn(2, 32, 8, 8).double()
    with torch.autocast('cpu', torch.bfloat16):
        expected, found = (block(x) for block in twins())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('change', [
    dict(track_running_stats=False),
    dict(num_batches_tracked=None),
    dict(num_batches_tracked=None, momentum=None),
])  # fmt: skip
def test_statistics_are_updated_as_by_batch_norm(change):
    x, found = torch.randn(2, 32, 5, 5).double(), []
    for block in twins(norm_cfg=BN):
        for name, value in change.items():
            setattr(block.norm, name, value)
        block(x)
        found.append((block.norm.running_mean, block.norm.running_var))
    torch.testing.assert_close(*found)


def test_types_that_differ_fail_at_every_size():
    block = CGNL2d(16, groups=2)
    for size in (8, 24):
        with pytest.raises(RuntimeError, match='type'):
            block(torch.randn(2, 16, size, size).bfloat16())
    block.backend = 'folded'
    with pytest.raises(RuntimeError, match='bfloat16 and the weights'):
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
    block = CGNL2d(32, groups=4, norm_cfg=BN, backend='folded')
    block.eval()
    out = block(large().requires_grad_())
    block.norm.running_var.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace'):
        out.sum().backward()
