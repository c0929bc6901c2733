"""The Triton passes: in Triton's interpreter, compiled, and on a GPU.

This file runs itself as a script: ``tests/tools/triton_runs.py``.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from triton_runs import (
    DTYPES,
    VERSION,
    as_list,
    check_close,
    check_on_gpu,
    compile_launches,
    needs_compiler,
    needs_gpu,
    needs_interpreter,
    needs_triton,
    to,
    write_report,
)

from cgnl_mm.ops import passes, passes_triton, triton_launch
from cgnl_mm.ops.folded import folded_block
from cgnl_mm.ops.folded_norm import FoldedNorm

GROUPS = 2
# B, k, c, S: odd ones, S = 1, several chunks of positions, several tiles of
# channels, padded k and c
SIZES = [
    (1, 4, 8, 1),
    (1, 4, 8, 500),
    (3, 16, 32, 7),
    (1, 16, 32, 63),
    (1, 24, 48, 300),
    (3, 24, 48, 7),
    (1, 64, 128, 63),
    (3, 64, 128, 1),
    (1, 128, 72, 20),
]


def channels_last(x):
    """The same values, strides as of an image's channels_last."""
    return x.mT.contiguous().mT


def arguments(batch, k, c, positions, dtype, device):
    """Arguments of each pass; maps in ``dtype``, the small ones float32."""
    rows = batch * GROUPS
    shapes = {
        'x': (batch, GROUPS * c, positions),
        'd': (batch, GROUPS * c, positions),
        'y': (rows, k, positions),
        'g': (rows, k, positions),
    }
    small = {
        'shift': (batch, GROUPS * c),
        'matrix': (rows, c, k),
        'inside': (rows, k, k),
        'd_mean': (rows, k, 1),
    }
    t = {n: torch.randn(s).to(dtype).to(device) for n, s in shapes.items()}
    t.update({n: torch.randn(s).to(device) for n, s in small.items()})
    large_mean = (t['y'] + 30).to(dtype)
    one_sum = t['d'][:, :, :1].expand_as(t['d'])  # strides of zero
    forward = [(t['x'], t['shift'], t['matrix'], t['y'])]
    backward = [(t['d'], t['y']), (one_sum, t['y'])]
    gradient = [(t['d'], t['matrix'], t['y'], t['inside'], t['d_mean'])]
    for calls in (forward, backward, gradient):
        first, *others = calls[0]
        calls.append((channels_last(first), *others))
        if dtype != torch.float32:  # autocast: x float32, y half
            calls.append((torch.randn_like(first.float()), *others))
    return {
        'inner_products': [
            (t['y'], t['g'], powers) for powers in ([1], [0, 1, 2, 3], [2])
        ],
        'statistics': [(t['y'],), (large_mean,)],
        'apply': forward,
        'apply_backward': backward,
        'input_gradient': gradient,
    }


def check_pass(name, size, dtype, device, roundings=1):
    """At every layout and type of its arguments."""
    run, plain = getattr(passes_triton, name), getattr(passes, name)
    for call, args in enumerate(arguments(*size, dtype, device)[name]):
        results = as_list(run(*args))
        again = results if call else as_list(run(*args))
        expected = as_list(plain(*args))
        truth = as_list(plain(*to(torch.float64, args)))
        # the largest sums of magnitudes
        absolute = [a.abs() if torch.is_tensor(a) else a for a in args]
        scales = as_list(plain(*to(torch.float64, absolute)))
        assert len(results) == len(expected)
        for index, values in enumerate(
            zip(results, again, expected, truth, scales)
        ):
            fast, repeated, *others, scale = values
            assert torch.equal(fast, repeated), (name, index)
            scale = torch.maximum(scale.abs().max(), others[-1].abs().max())
            check_close((name, index), fast, *others, roundings * scale)
        if name == 'apply':
            assert results[0].stride() == args[0].stride()


def check_splits(programs, name, device):
    """Other blocks and chunks: as of a larger GPU, or of larger maps."""
    before = passes_triton.PROGRAMS, passes_triton.MIN_CHUNK
    passes_triton.PROGRAMS, passes_triton.MIN_CHUNK = programs, 64
    try:
        check_pass(name, (2, 24, 80, 300), torch.float32, device, 2)
    finally:
        passes_triton.PROGRAMS, passes_triton.MIN_CHUNK = before


def check_large_mean(device):
    """Mean 1e3 times the deviation, which differs between the chunks."""
    y = torch.randn(2, 16, 700, device=device)
    y = 1e3 + y * torch.linspace(0.5, 2, 700, device=device)
    y[:, :, 0] = 0  # no first position to lean on
    truth = passes.statistics(y.double())
    fast, plain = passes_triton.statistics(y), passes.statistics(y)
    for index, values in enumerate(zip(fast, plain, truth)):
        check_close(index, *values, values[-1].abs().max())


def check_overflow(device):
    """Products and matrices beyond float16, results within."""
    phi = torch.full((1, 4, 40), 100.0, dtype=torch.float16, device=device)
    (value,) = passes_triton.inner_products(phi, phi, [2])
    assert value.item() == 16e7
    y = torch.full((1, 16, 20), 2.0**-14, dtype=torch.float16, device=device)
    matrix = torch.full((1, 16, 16), 2.0**17, device=device)
    x = torch.zeros(1, 16, 20, dtype=torch.float16, device=device)
    shift = torch.zeros(1, 16, device=device)
    out = passes_triton.apply(x, shift, matrix, y)
    assert (out == 128).all()


NORMS = {
    'gn': lambda channels, device: FoldedNorm(GROUPS),
    'gn_twice': lambda channels, device: FoldedNorm(2 * GROUPS),
    'gn_odd': lambda channels, device: FoldedNorm(5),
    'gn_one': lambda channels, device: FoldedNorm(1),
    'in': lambda channels, device: FoldedNorm(channels),
    'bn': lambda channels, device: FoldedNorm(channels, over_batch=True),
    'bn_eval': lambda channels, device: FoldedNorm(
        channels,
        mean=torch.full((channels,), 0.1, device=device),
        var=torch.full((channels,), 0.5, device=device),
    ),
    'none': lambda channels, device: None,
}
SERIES = {
    'dot': (0.0, 1.0),
    'series': (0.5, 0.3, 0.2, 0.1),
    'learnable': torch.tensor([[0.2, 0.3, 0.1], [0.1, 0.4, 0.2]]),
    'none': None,
}


def block_arguments(series, dtype, device, batch=2, positions=(3, 5, 7)):
    """x, the parameters in the order of folded_block, and the gradient."""
    c, k = 40, 24
    channels, inner = GROUPS * c, GROUPS * k
    x = torch.randn(batch, channels, *positions).to(dtype)
    weights = [0.3 * torch.randn(inner, channels) for _ in range(3)]
    z = 0.3 * torch.randn(channels, k)
    parameters = [w.to(dtype) for w in (*weights, z)]
    affine = [torch.rand(channels) + 0.5, torch.randn(channels)]
    grad = torch.randn(x.shape).to(dtype)
    coefficients = SERIES[series]
    tensor = torch.is_tensor(coefficients)
    if coefficients is None:
        parameters[1:3] = None, None
    extra = [coefficients.clone()] if tensor else []
    leaves = [x, *parameters, *affine, *extra]
    leaves = [v if v is None else v.to(device) for v in leaves]
    return leaves, coefficients, grad.to(device)


def run_block(kernels, leaves, coefficients, grad, norm, **options):
    """Output, statistics and every gradient, by name."""
    leaves = [v if v is None else v.detach().requires_grad_() for v in leaves]
    x, theta, phi, g, z, weight, bias, *learned = leaves
    if learned:
        coefficients = learned[0]
    elif coefficients is None:
        coefficients = (0.0, 1.0)
    # as large as a group's sum, so that the norms see numbers of size one
    scale = 0.05 if norm is None else 0.1
    out, mean, var = folded_block(
        x, theta, phi, g, z, weight, bias, norm, coefficients, GROUPS, scale,
        kernels=kernels, **options,
    )  # fmt: skip
    names = 'x theta phi g z weight bias coefficients'.split()
    named = {n: v for n, v in zip(names, leaves) if v is not None}
    grads = torch.autograd.grad(out, list(named.values()), grad)
    results = {'grad_' + n: value for n, value in zip(named, grads)}
    results.update(out=out.detach())
    if mean is not None:
        results.update(mean=mean, var=var)
    return results


def check_block(series, norm, dtype, device, mixed=False, recompute=False):
    leaves, coefficients, grad = block_arguments(series, dtype, device)
    if mixed:  # autocast: x float32, convolutions half
        leaves[0], grad = leaves[0].float(), grad.float()
    channels = leaves[0].shape[1]
    norm = NORMS[norm](channels, device)
    wide = [v if v is None else v.double() for v in leaves]
    wide_norm = norm
    if norm is not None and norm.mean is not None:
        wide_norm = FoldedNorm(
            channels, mean=norm.mean.double(), var=norm.var.double()
        )
    truth = run_block(passes, wide, coefficients, grad.double(), wide_norm)
    plain = run_block(passes, leaves, coefficients, grad, norm)
    fast = run_block(
        passes_triton, leaves, coefficients, grad, norm, recompute=recompute
    )
    assert fast.keys() == plain.keys()
    for name in fast:
        scale = 8 * truth[name].abs().max()  # sums of sums
        check_close(name, fast[name], plain[name], truth[name], scale)


PASSES = (
    'inner_products',
    'statistics',
    'apply',
    'apply_backward',
    'input_gradient',
)
CASES = {
    f'{name}-{dtype}-{"x".join(map(str, size))}': partial(
        check_pass, name, size, DTYPES[dtype]
    )
    for name in PASSES
    for dtype in DTYPES
    for size in SIZES
}
CASES.update(
    {
        f'block-{series}-{norm}-{dtype}': partial(
            check_block, series, norm, DTYPES[dtype]
        )
        for series, norm, dtype in [
            *(('dot', norm, dtype) for norm in NORMS for dtype in DTYPES),
            *((series, 'gn', 'fp32') for series in list(SERIES)[1:]),
            ('series', 'bn', 'bf16'),
            ('learnable', 'none', 'fp32'),
            ('none', 'bn', 'bf16'),
        ]
    }
)
CASES.update(
    {
        'block-autocast-bf16': partial(
            check_block, 'dot', 'gn', torch.bfloat16, mixed=True
        ),
        'block-autocast-fp16': partial(
            check_block, 'dot', 'gn', torch.float16, mixed=True
        ),
        'block-recompute': partial(
            check_block, 'dot', 'gn', torch.float32, recompute=True
        ),
        **{
            f'splits-{programs}-{name}': partial(check_splits, programs, name)
            for programs in (1, 10**5)
            for name in PASSES
        },
        'large-mean': check_large_mean,
        'overflow': check_overflow,
    }
)


@needs_interpreter
@pytest.mark.parametrize('name', CASES)
def test_interpreted(name, interpreted):
    if interpreted[name]:
        pytest.fail(interpreted[name], pytrace=False)


@needs_compiler
@pytest.mark.parametrize(
    ('dtype', 'size', 'capability'),
    [
        ('bf16', (32, 64, 128, 196), 90),
        ('bf16', (1, 24, 48, 4199), 80),
        ('fp16', (2, 128, 256, 1568), 80),
        ('fp32', (2, 128, 256, 1568), 80),
        ('fp32', (1, 1, 1, 1), 80),
    ],
)
def test_compiles_without_gpu(dtype, size, capability, monkeypatch, tmp_path):
    """What the interpreter lets pass, and shared memory of small GPUs."""
    seen = compile_launches(passes_triton, capability, monkeypatch, tmp_path)
    for name, calls in arguments(*size, DTYPES[dtype], 'cpu').items():
        for args in calls[::2]:
            getattr(passes_triton, name)(*args)
    assert len(seen) >= 5


def run_python(code):
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_supported_says_why_not(monkeypatch):
    x = torch.randn(1, 8, 4)
    if VERSION >= (3, 0):
        assert 'float64' in passes_triton.supported(x.double(), 4)
        assert '129' in passes_triton.supported(x, 129)
        if os.environ.get('TRITON_INTERPRET') != '1':
            assert 'cpu' in passes_triton.supported(x, 4)
        monkeypatch.setattr(passes_triton.triton, '__version__', '2.1.0')
        assert '2.1.0' in passes_triton.supported(x, 4)


def test_precision_of_products(monkeypatch):
    """The interpreter multiplies in float32 whatever it is told."""
    if torch.version.hip is not None:
        pytest.skip('TF32 is left to NVIDIA')
    single, brain, half = (torch.empty(0, dtype=d) for d in DTYPES.values())
    choose = triton_launch.precision_of
    for tf32, expected in ((False, 'ieee'), (True, 'tf32')):
        monkeypatch.setattr(triton_launch, 'tf32_allowed', partial(bool, tf32))
        assert choose(single, single) == expected
    assert choose(single, single, exact=True) == 'tf32x3'
    assert choose(brain, brain, exact=True) == 'tf32'  # nothing is lost
    assert choose(single, brain) == 'tf32x3'
    assert choose(single, half) == 'tf32x3'


@pytest.mark.parametrize('switch', ['allow_tf32', 'fp32_precision'])
def test_tf32_is_asked_for(switch):
    """Either flag of torch; in a process of its own, as they do not mix."""
    value = {'allow_tf32': 'True', 'fp32_precision': '"tf32"'}[switch]
    try:
        getattr(torch.backends.cuda.matmul, switch)
    except (AttributeError, AssertionError):  # torch raises either
        pytest.skip(f'this torch has no {switch}')
    code = (
        'import torch; from cgnl_mm.ops import triton_launch as t; '
        'before = t.tf32_allowed(); '
        f'torch.backends.cuda.matmul.{switch} = {value}; '
        'print(before, t.tf32_allowed())'
    )
    assert run_python(code).split() == ['False', 'True']


def test_imports_without_triton():
    code = (
        'import sys; sys.modules["triton"] = None; import torch; '
        'from cgnl_mm.ops import passes_triton; '
        'print(passes_triton.supported(torch.ones(1, 1, 1), 1))'
    )
    assert 'Triton cannot be imported' in run_python(code)


@needs_gpu
@needs_triton
def test_on_gpu(poison):
    check_on_gpu(CASES)


@needs_gpu
@needs_triton
@pytest.mark.parametrize('series', SERIES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_cuda_graph(series, dtype):
    """Forward and backward captured once, replayed with other numbers."""
    arguments = partial(block_arguments, series, DTYPES[dtype], 'cuda')
    leaves, coefficients, grad = arguments()
    run = partial(
        run_block, passes_triton, leaves, coefficients, grad,
        FoldedNorm(GROUPS),
    )  # fmt: skip
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    other, _, other_grad = arguments()
    grad.copy_(other_grad)
    for leaf, value in zip(leaves, other):
        if leaf is not None:
            leaf.copy_(value)
    graph.replay()
    for name, expected in run().items():
        torch.testing.assert_close(captured[name], expected, msg=name)


@needs_gpu
@needs_triton
def test_offsets_beyond_int32():
    """A channel stride of 2^28 elements: the last of 10 lies beyond 2^31."""
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip('needs 8 GiB of GPU memory')
    base = torch.zeros(10 * 2**28, dtype=torch.bfloat16, device='cuda')
    x = base.as_strided((1, 10, 20), (0, 2**28, 1))
    x.copy_(torch.randn(1, 10, 20))
    y = torch.randn(2, 4, 20, device='cuda').bfloat16()
    matrix = torch.randn(2, 5, 4, device='cuda')
    shift = torch.zeros(1, 10, device='cuda')
    inside, d_mean = y.new_zeros(2, 4, 4), y.new_zeros(2, 4, 1)
    for name, others in {
        'apply': (shift, matrix, y),
        'apply_backward': (y,),
        'input_gradient': (matrix, y, inside, d_mean),
    }.items():
        run = getattr(passes_triton, name)
        for fast, expected in zip(
            as_list(run(x, *others)), as_list(run(x.clone(), *others))
        ):
            torch.testing.assert_close(fast, expected, msg=name)


if __name__ == '__main__':
    write_report(CASES)
