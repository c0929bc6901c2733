"""The paths give the same results, and each is taken where it can run."""

import copy
import logging
import re

import pytest
import torch
from mmengine.logging import MMLogger
from samples import BLOCKS, BN, NORMS, SIZES, results, trained
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cgnl_mm import CGNL1d, CGNL2d
from cgnl_mm.blocks import paths
from cgnl_mm.blocks.settings import MODES


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


def large():
    return torch.randn(1, 32, 48, 48)


POSITIONS, GRAM = paths.FOLDED_POSITIONS, paths.GRAM_POSITIONS
INNER, RATIO = paths.FOLDED_INNER, paths.GRAM_TRAINING
GAUSSIAN = dict(mode='embedded_gaussian')
RECOMPUTE = dict(GAUSSIAN, recompute=True)


@pytest.mark.parametrize(
    'path, needs_gradient, positions, channels, groups, options',
    [
        ('folded', True, POSITIONS, 32, 4, GAUSSIAN),
        ('reference', True, POSITIONS - 1, 32, 4, GAUSSIAN),
        ('reference', False, POSITIONS, 32, 4, GAUSSIAN),
        ('folded', True, POSITIONS - 1, 32, 4, RECOMPUTE),
        # There is nothing to compute again.
        ('reference', False, POSITIONS - 1, 32, 4, RECOMPUTE),
        # The covariances of large groups cost more than they spare.
        ('folded', True, POSITIONS, 4 * INNER, 2, {}),
        ('reference', True, POSITIONS, 4 * INNER + 4, 2, {}),
        ('gram', True, GRAM, 32, 4, {}),
        ('gram', False, GRAM, 32, 4, {}),
        ('folded', True, GRAM - 1, 32, 4, {}),
        ('gram', True, RATIO * GRAM, GRAM, GRAM // 2, {}),
        ('folded', True, RATIO * GRAM - 1, GRAM, GRAM // 2, {}),
        ('gram', False, paths.GRAM_INFERENCE * 512, 512, 8, {}),
        ('reference', False, paths.GRAM_INFERENCE * 512 - 1, 512, 8, {}),
    ],
)
def test_chosen_by_size(
    path, needs_gradient, positions, channels, groups, options
):
    with torch.device('meta'):
        block = CGNL1d(channels, groups=groups, **options)
    x = torch.empty(1).expand(1, channels, positions)
    with torch.set_grad_enabled(needs_gradient):
        assert paths.choose(block, x) == path


@pytest.mark.parametrize(
    'mode, dtype, autocast, message',
    [
        *((mode, torch.float32, False, mode) for mode in MODES[1:]),
        (MODES[0], torch.float32, True, 'autocast'),
        (MODES[0], torch.bfloat16, False, 'bfloat16 loses the sums'),
    ],
)
def test_gram_says_why_it_cannot_run(mode, dtype, autocast, message):
    block = CGNL2d(32, groups=4, mode=mode).to(dtype)
    x = large().to(dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        assert paths.choose(block, x) == 'folded'
        block.backend = 'gram'
        with pytest.raises(RuntimeError, match=f"'gram' cannot.*{message}"):
            block(x)


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


HOOKS = 'forward', 'forward_pre', 'full_backward', 'full_backward_pre'


def hook(kind):
    return lambda block: getattr(block.phi, f'register_{kind}_hook')(id)


def put_conv(name, *args, **kwargs):
    return put(name, nn.Conv2d, 32, 16, *args, **kwargs)


@pytest.mark.parametrize(
    'change, message',
    [
        *((hook(kind), 'hook') for kind in HOOKS),
        (double, 'a forward of its own'),
        (put('g', nn.Sequential), 'g is not .* Sequential'),
        (put_conv('theta', 1), 'theta is not .* Conv2d.32'),
        (put_conv('phi', 3, padding=1, bias=False), 'phi is not .*=.3, 3.'),
        (put_conv('g', 1, groups=2, bias=False), 'g is not .* groups=2'),
        (put('norm', nn.SyncBatchNorm, 32), 'SyncBN'),
        (put('norm', nn.LayerNorm, 48), 'of type LayerNorm'),
        (put('norm', RectifiedNorm, 4, 32), 'of type RectifiedNorm'),
        (
            put('norm', nn.InstanceNorm2d, 32, track_running_stats=True),
            'running statistics',
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
    assert re.search(message, record.message)


def test_a_harmless_subclass_of_the_norm_is_folded():
    block = CGNL2d(32, groups=4)
    block.norm = type('Named', (nn.GroupNorm,), {})(4, 32)
    assert paths.choose(block, large()) == 'gram'


@pytest.mark.parametrize('size', [6, 100])
def test_fused_batch_norm_changes_no_result(size):
    """mmcv's fuse_conv_bn gives W_z a bias and takes the norm away."""
    _, block = twins(path='auto', norm_cfg=BN)
    block.eval()
    x = torch.randn(1, 32, size, size, dtype=torch.float64)
    expected = block(x)
    block.conv_out = fuse_conv_bn_eval(block.conv_out, block.norm)
    block.norm = nn.Identity()
    assert torch.allclose(block(x), expected, 1e-9, 1e-9)


@pytest.mark.parametrize('norm', ['BN', 'IN', 'GN'])
def test_statistics_of_one_value_are_refused_as_by_the_norm(norm):
    for path in ('reference', 'folded'):
        block = CGNL2d(8, 4, norm_cfg=NORMS.get(norm), backend=path)
        block.norm.num_groups = 8
        with pytest.raises(ValueError, match='more than 1'):
            block(torch.randn(1, 8, 1, 1))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('recompute', [False, True])
def test_inputs_without_values(recompute, dtype):
    """Meta tensors and empty batches take the reference."""
    for mode in ('dot_product', 'gaussian_rbf'):
        block = CGNL2d(32, groups=4, mode=mode, recompute=recompute).to(dtype)
        x = torch.empty(0, 32, 48, 48, dtype=dtype, requires_grad=True)
        block(x).sum().backward()
        assert x.grad.shape == x.shape
        x = large().to('meta', dtype)
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


@pytest.mark.parametrize('norm', ['BN', 'cumulative BN', 'default'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_recompute_on_the_reference_path(norm, dtype):
    """The same results, statistics of one step, and x alone is kept."""
    found, x = [], torch.randn(2, 32, 9, 9).to(dtype)
    block = trained(2, 32, mode='learnable', norm_cfg=NORMS[norm])
    block.backend = 'reference'
    for block.recompute in (False, True):
        twin, kept = copy.deepcopy(block), {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            with torch.autocast('cpu', dtype, dtype == torch.bfloat16):
                found.append(results(twin, x, x))
        found[-1].update(twin.named_buffers())
    assert sum(kept.values()) <= x.nbytes
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value), name


def test_recomputed_twice():
    """Each of two losses on one graph adds its gradient."""
    block = CGNL2d(32, recompute=True, backend='reference')
    y = block(torch.randn(2, 32, 9, 9)).square().sum()
    y.backward(retain_graph=True)
    first = block.norm.weight.grad.clone()
    y.backward()
    assert first.any() and torch.equal(block.norm.weight.grad, 2 * first)


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
    block = CGNL2d(32, groups=4, norm_weight=1.0)
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
