"""backend='autotune': the fastest path here, and nothing but its speed."""

import logging
import threading
import time
import weakref

import pytest
import torch
from torch.utils import checkpoint as checkpoints
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from cgnl_mm import CGNL2d
from cgnl_mm.blocks import autotune, cgnl
from cgnl_mm.ops import dispatch, passes

SLOW = 0.05  # seconds; the blocks here take a fiftieth of it


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(autotune, '_choices', {})
    monkeypatch.setattr(dispatch, '_said', set())


@pytest.fixture
def measured(monkeypatch):
    """The paths of each measurement."""
    found, measure = [], autotune._measure

    def record(block, x, paths):
        found.append(tuple(paths))
        return measure(block, x, paths)

    monkeypatch.setattr(autotune, '_measure', record)
    return found


def twins(**options):
    """One block that tunes and one that does not, not at the start."""
    torch.manual_seed(0)
    tuned = CGNL2d(
        32, groups=4, backend='autotune', zero_init=False, init_std=0.3,
        **options,
    )  # fmt: skip
    plain = CGNL2d(32, groups=4, backend='reference', **options)
    plain.load_state_dict(tuned.state_dict())
    return tuned, plain


def make(size=(12, 13), batch=2):
    return torch.randn(batch, 32, *size, requires_grad=True)


def delay(monkeypatch, *paths):
    """Make paths slow: the reference, or all others."""
    for path in paths:
        owner, name = (
            (cgnl, 'cgnl_attention')
            if path == 'reference'
            else (passes, 'apply')
        )
        monkeypatch.setattr(owner, name, slowed(getattr(owner, name)))


def slowed(function):
    def wrapped(*args, **kwargs):
        time.sleep(SLOW)
        return function(*args, **kwargs)

    return wrapped


def changed(function):
    """A hundredth too large, as a wrong kernel would be."""

    def wrapped(*args):
        out = function(*args)
        if isinstance(out, tuple):
            return tuple(1.01 * part for part in out)
        return 1.01 * out

    return wrapped


def chosen():
    return [path for path, _ in autotune._choices.values()]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('slow', ['reference', 'others'])
def test_the_fastest_path_is_taken(monkeypatch, caplog, slow, training):
    block, _ = twins()
    delay(monkeypatch, slow)
    with caplog.at_level(logging.INFO, 'cgnl_mm'):
        with torch.set_grad_enabled(training):
            block(make())
    (path,) = chosen()
    assert (path == 'reference') == (slow == 'others')
    (line,) = (r.getMessage() for r in caplog.records)
    assert line.startswith(
        f"CGNL runs its {path} path: backend='autotune', measured reference "
    )
    for name in ('folded', 'gram', '2x32x12x13', 'float32'):
        assert name in line


def test_a_kind_of_input_is_measured_once(measured):
    block, other = twins()[0], twins()[0]
    for b in (block, other):
        b(make((12, 13)))
        b(make((13, 12)))  # as many positions, to a power of two
    assert measured == [('reference', 'folded', 'gram')]
    block(make((4, 4)))
    block(make((12, 13), batch=3))  # as many as two, to a power of two
    block(make((12, 13), batch=4))
    block(make().detach())  # no gradient of x
    with torch.no_grad():
        block(make())
    with torch.autocast('cpu', torch.bfloat16):
        block(make())
    block.double()(make().double())
    assert len(measured) == 7


@pytest.mark.parametrize('norm', [None, dict(type='BN'), False])
@pytest.mark.parametrize('slow', ['reference', 'others'])
def test_only_the_speed_changes(monkeypatch, norm, slow):
    tuned, plain = twins(norm_cfg=norm)
    delay(monkeypatch, slow)
    x = make()
    d = torch.randn(x.shape)
    state = torch.get_rng_state()
    results = []
    for block in (tuned, plain):
        out = block(x)
        grads = torch.autograd.grad(out, [x, *block.parameters()], d)
        results.append([out, *grads, *block.buffers()])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in tuned.parameters())


def test_threads_share_a_block(measured):
    """While one measures, another one computes with the weights."""
    tuned, plain = twins()
    before = dict(tuned.named_parameters())
    sizes = [(20, 20), (40, 40), (10, 10)]
    inputs = [make(size).detach() for size in sizes]
    wrong, start = [], threading.Barrier(len(sizes))

    def serve(x):
        start.wait()
        with torch.no_grad():
            expected = plain(x)
            for _ in range(20):
                error = (tuned(x) - expected).abs().max().item()
                if not error < 1e-3:
                    wrong.append(error)

    threads = [threading.Thread(target=serve, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == len(sizes)
    assert not wrong
    after = dict(tuned.named_parameters())
    assert all(after[name] is p for name, p in before.items())
    for a, b in zip(after.values(), plain.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_has_its_candidates(caplog, dtype):
    block, _ = twins()
    x = make()
    with torch.autocast('cpu', dtype):
        out = block(x)
    out.float().sum().backward()
    ((_, reason),) = autotune._choices.values()
    assert 'reference' in reason and 'folded' in reason
    assert not [r for r in caplog.records if r.levelname == 'WARNING']


def test_autocast_caches_none_of_the_trials(monkeypatch):
    block, _ = twins()
    call, stand_ins = torch.func.functional_call, []

    def record(module, tensors, *args):
        stand_ins.extend(map(weakref.ref, tensors.values()))
        return call(module, tensors, *args)

    monkeypatch.setattr(torch.func, 'functional_call', record)
    with torch.autocast('cpu', torch.bfloat16):
        block(make())
        assert stand_ins
        assert not [ref for ref in stand_ins if ref() is not None]


@pytest.mark.skipif(
    not hasattr(checkpoints, 'create_selective_checkpoint_contexts'),
    reason='new in torch 2.4',
)
def test_selective_checkpointing(monkeypatch):
    """What is computed again takes the path that it took at first."""
    tuned, plain = twins()
    delay(monkeypatch, 'reference')  # 'auto' would take it

    def contexts():
        return checkpoints.create_selective_checkpoint_contexts(
            [torch.ops.aten.convolution.default]
        )

    x = make()
    out = checkpoint(tuned, x, use_reentrant=False, context_fn=contexts)
    out = tuned(out)
    assert chosen() != ['reference']
    d = torch.randn(x.shape)
    (found,) = torch.autograd.grad(out, [x], d)
    (expected,) = torch.autograd.grad(plain(plain(x)), [x], d)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_hook_on_all_modules_sees_the_block_alone(measured):
    block, _ = twins()
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.append(type(module).__name__)
    )
    try:
        block(make())
    finally:
        handle.remove()
    assert not measured
    assert seen.count('CGNL2d') == 1 and seen.count('Conv2d') <= 4


def test_hooks_see_one_call(measured):
    block, _ = twins()
    seen = []
    block.register_forward_hook(lambda *_: seen.append('block'))
    block.theta.weight.register_hook(lambda d: seen.append('theta'))
    block(make()).sum().backward()
    assert measured
    assert seen == ['block', 'theta']


def test_checkpointing(measured):
    tuned, plain = twins()
    x = make()
    for block in (tuned, plain):
        out = checkpoint(block, x, use_reentrant=False)
        out.square().sum().backward()
    assert measured
    for a, b in zip(tuned.parameters(), plain.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize('zero_init', [True, False])
@pytest.mark.parametrize('name', ['apply', 'apply_backward', 'statistics'])
def test_a_wrong_path_is_left_out(monkeypatch, caplog, name, zero_init):
    delay(monkeypatch, 'reference')
    block = CGNL2d(
        32, groups=4, backend='autotune', zero_init=zero_init, init_std=0.3
    )
    monkeypatch.setattr(passes, name, changed(getattr(passes, name)))
    block(make())
    block(make((30, 30)))  # another kind; said once
    assert chosen() == ['reference', 'reference']
    warnings = [r for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 2  # folded and gram
    assert 'folded path is left out here: its results deviate by' in (
        warnings[0].getMessage()
    )


@pytest.mark.parametrize(
    'norm', [None, dict(type='GN', num_groups=1), dict(type='BN'), False]
)
@pytest.mark.parametrize('mode', cgnl.MODES)
@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16]
)
@pytest.mark.parametrize('size', [(1, 2), (23, 31), (64, 64)])
def test_rounding_leaves_no_path_out(caplog, norm, mode, dtype, size):
    for use_scale in (False, True)[: 1 + (mode != 'none')]:
        block = CGNL2d(
            64, groups=4, backend='autotune', mode=mode, norm_cfg=norm,
            use_scale=use_scale,
        ).to(dtype)  # fmt: skip
        x = torch.randn(2, 64, *size, dtype=dtype)
        call = autotune._trial_call(block, x.requires_grad_())
        paths = ['reference', 'folded']
        if mode == 'dot_product' and dtype in (torch.float32, torch.float64):
            paths.append('gram')
        assert [*autotune._agreeing(call, paths, x)] == paths, caplog.text


def test_a_path_that_fails_is_left_out(monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError('no such kernel\nbecause')

    delay(monkeypatch, 'reference')
    monkeypatch.setattr(passes, 'apply', fail)
    block, plain = twins()
    x = make()
    torch.testing.assert_close(block(x), plain(x))
    assert 'left out here: RuntimeError: no such kernel.' in caplog.text


def test_want_of_memory_is_no_defect(monkeypatch, caplog):
    """The trials need more of it than the block."""
    once = iter([torch.cuda.OutOfMemoryError('out of memory')])
    apply = passes.apply

    def scarce(*args):
        for error in once:
            raise error
        return apply(*args)

    monkeypatch.setattr(passes, 'apply', scarce)
    block, plain = twins()
    x = make()
    torch.testing.assert_close(block(x), plain(x))
    ((_, reason),) = autotune._choices.values()
    assert reason == 'not measured: OutOfMemoryError: out of memory'
    assert not [r for r in caplog.records if r.levelname == 'WARNING']


def test_an_error_of_the_block_is_its_own():
    block, _ = twins(norm_cfg=dict(type='IN', affine=True))
    with pytest.raises(ValueError, match='more than 1'):
        block(make((1, 1)))


def test_memory_before_time(measured):
    block = CGNL2d(32, groups=4, backend='autotune', recompute=True)
    block(make())
    assert measured == [('folded', 'gram')]
    with torch.no_grad():
        block(make())
    assert measured[1] == ('reference', 'folded', 'gram')


def test_a_hook_inside_leaves_one_path(measured, caplog):
    block, _ = twins()
    block.phi.register_forward_hook(lambda *_: None)
    with caplog.at_level(logging.INFO, 'cgnl_mm'):
        block(make())
    assert not measured
    assert 'the only one that serves' in caplog.text


def test_deterministic_runs_do_not_depend_on_the_clock(measured, caplog):
    block, _ = twins()
    torch.use_deterministic_algorithms(True)
    try:
        with caplog.at_level(logging.INFO, 'cgnl_mm'):
            block(make())
    finally:
        torch.use_deterministic_algorithms(False)
    assert not measured
    assert 'not measured: deterministic algorithms are wanted' in caplog.text


def test_a_counter_counts_the_block_alone(measured):
    tuned, plain = twins()
    counts = []
    for block in (tuned, plain):
        with FlopCounterMode(display=False) as counter:
            block(make())
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]
    assert not measured
    tuned(make())  # not for good
    assert measured


def test_compiled_is_the_reference(measured):
    block, plain = twins()
    x = make()
    compiled = torch.compile(block, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x))
    assert not measured


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16]
)
def test_on_gpu(measured, dtype):
    block, plain = (b.to('cuda', dtype) for b in twins())
    x = make((64, 65)).detach().to('cuda', dtype)
    with torch.no_grad():
        expected = plain(x)  # also warms up
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            block(x)  # nothing can be measured in here
        assert not measured
        block(x)
        assert 'triton' in measured[0]
        ((_, reason),) = autotune._choices.values()
        assert 'triton' in reason, 'left out'
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = block(x)
        graph.replay()
    error = (out - expected).double().norm()
    assert error <= 2e-2 * (out - x).double().norm()
