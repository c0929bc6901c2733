"""The norm's Triton kernels: in the interpreter, compiled, and on a GPU.

This file runs itself as a script: ``tests/tools/triton_runs.py``.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton_runs import (
    check_close,
    check_on_gpu,
    compile_launches,
    needs_compiler,
    needs_gpu,
    needs_interpreter,
    needs_triton,
    write_report,
)

from cgnl_mm.ops import folded_norm_triton, passes, passes_triton
from cgnl_mm.ops.folded_norm import FoldedNorm

POSITIONS = 50
# B, G, c, k: one of each; odd ones; padded k; more members, channels and
# samples than a program takes at a time
SHAPES = [
    (1, 1, 1, 1),
    (2, 2, 6, 3),
    (3, 2, 36, 20),
    (2, 4, 9, 16),
    (9, 1, 70, 128),
]
EPS = 0.1  # even where a channel is alone with its norm, something is left


def norms(groups, channels, device='cpu'):
    """Every kind, by name; ``odd`` has no divisor in common with G."""
    given = [torch.rand(channels, device=device) + 0.5 for _ in range(2)]
    table = {
        'GN(G)': FoldedNorm(groups, EPS),
        'GN(3G)': FoldedNorm(3 * groups, EPS),
        'GN(1)': FoldedNorm(1, EPS),
        'GN(odd)': FoldedNorm(5 if channels % 5 == 0 else 9, EPS),
        'IN': FoldedNorm(channels, EPS),
        'BN': FoldedNorm(channels, EPS, over_batch=True),
        'BN of groups': FoldedNorm(3, EPS, over_batch=True),
        'given': FoldedNorm(channels, EPS, mean=given[0], var=given[1]),
    }
    return {n: v for n, v in table.items() if channels % v.groups == 0}


def arguments(shape, norm, has_factor, device='cpu', dtype=torch.float32):
    """Of fold; of its gradient."""
    batch, groups, c, k = shape
    y = torch.randn(batch * groups, k, POSITIONS, device=device)
    draw = partial(torch.randn, device=device)
    factor = 2 * draw(batch, groups) if has_factor else None
    z, weight, bias = (
        draw(s).to(dtype) for s in ((groups * c, k), groups * c, groups * c)
    )
    args = factor, *passes.statistics(y), z, weight, bias, norm, groups
    return args, (draw(batch * groups, c, k), draw(batch, groups * c))


NAMES = (
    'matrix shift mean var matrix_again inside d_y d_factor d_z d_weight '
    'd_bias'
).split()


def run(kernels, args, gradient):
    """Everything that fold and fold_backward return, by name."""
    *out, held = kernels.fold(*args)
    out += kernels.fold_backward(*gradient, POSITIONS, held, *args)
    if args[6].mean is not None:
        out[2:4] = None, None  # given
    return {n: value for n, value in zip(NAMES, out) if value is not None}


def double(args):
    """Tensors, and those of a norm, in float64."""
    return [
        value.double()
        if torch.is_tensor(value)
        else replace(value, mean=value.mean.double(), var=value.var.double())
        if getattr(value, 'mean', None) is not None
        else value
        for value in args
    ]


def check_all(args, gradient):
    truth = run(passes, double(args), double(gradient))
    plain = run(passes, args, gradient)
    fast = run(passes_triton, args, gradient)
    again = fast  # the interpreter cannot but repeat itself
    if gradient[0].is_cuda:
        again = run(passes_triton, args, gradient)
    assert fast.keys() == truth.keys()
    parameters = dict(zip(NAMES[-3:], args[3:6]))
    for name, value in fast.items():
        assert torch.equal(value, again[name]), name
        if name in parameters:  # rounded to the parameter's type
            plain[name] = plain[name].to(parameters[name].dtype)
        scale = 8 * truth[name].abs().max()  # sums of sums
        check_close(name, value, plain[name], truth[name], scale)


def check(shape, name, has_factor, device, dtype=torch.float32):
    batch, groups, c, k = shape
    norm = norms(groups, groups * c, device)[name]
    check_all(*arguments(shape, norm, has_factor, device, dtype))


def check_large_factor(device):
    """The norm cancels it, but for a gradient of eps / (factor^2 var)."""
    args, gradient = arguments((2, 2, 6, 3), FoldedNorm(2), True, device)
    check_all((1e3 * args[0], *args[1:]), gradient)


def check_strides(name, device):
    """Views of any strides, as a user's own tensors may be."""
    norm = norms(2, 12, device)[name]
    if norm.mean is not None:
        norm = replace(norm, var=norm.var[:1].expand(12))
    args, gradient = arguments((2, 2, 6, 3), norm, True, device)
    factor, mean, cov, z, weight, bias, *rest = args
    z, *gradient = (t.mT.contiguous().mT for t in (z, *gradient))
    weight = weight[:1].expand_as(weight)
    bias = torch.stack([bias, bias], 1)[:, 0]
    check_all((factor, mean, cov, z, weight, bias, *rest), gradient)


def check_rounded_variance(device):
    """Below zero it counts as zero; NaN stays NaN."""
    args, _ = arguments((2, 2, 6, 3), FoldedNorm(12), False, device)
    cov = -torch.eye(3, device=device).expand_as(args[2])
    _, _, _, var, _ = passes_triton.fold(*args[:2], cov, *args[3:])
    assert (var == 0).all()
    _, _, _, var, _ = passes_triton.fold(*args[:2], cov.log(), *args[3:])
    assert var.isnan().all()


CASES = {
    f'{name}-{"factor" if has_factor else "plain"}-'
    f'{"x".join(map(str, shape))}': partial(check, shape, name, has_factor)
    for shape in SHAPES
    for name in norms(shape[1], shape[1] * shape[2])
    for has_factor in (True, False)
}
CASES.update(
    {
        f'{name}-bf16': partial(
            check, (3, 2, 36, 20), name, True, dtype=torch.bfloat16
        )
        for name in ('GN(G)', 'BN', 'given')
    }
)
CASES['strides-GN(G)'] = partial(check_strides, 'GN(G)')
CASES['strides-given'] = partial(check_strides, 'given')
CASES['large-factor'] = check_large_factor
CASES['rounded-variance'] = check_rounded_variance


@needs_interpreter
@pytest.mark.parametrize('name', CASES)
def test_interpreted(name, interpreted):
    if interpreted[name]:
        pytest.fail(interpreted[name], pytrace=False)


@needs_gpu
@needs_triton
def test_on_gpu(poison):
    check_on_gpu(CASES)


@needs_compiler
@pytest.mark.parametrize(
    'shape, name, has_factor, dtype, capability',
    [
        ((2, 8, 256, 128), 'GN(G)', True, torch.float32, 80),
        ((2, 8, 128, 64), 'BN', True, torch.bfloat16, 90),
        ((2, 8, 60, 20), 'GN(1)', False, torch.bfloat16, 90),
        ((2, 8, 256, 128), 'given', True, torch.bfloat16, 80),
        ((1, 1, 1, 1), 'given', False, torch.float32, 80),
        ((1, 1, 1, 1), 'IN', True, torch.float32, 80),
    ],
)
def test_compiles_without_gpu(
    shape, name, has_factor, dtype, capability, monkeypatch, tmp_path
):
    seen = compile_launches(
        folded_norm_triton, capability, monkeypatch, tmp_path
    )
    norm = norms(shape[1], shape[1] * shape[2])[name]
    run(passes_triton, *arguments(shape, norm, has_factor, dtype=dtype))
    assert len(seen) == (4 if name == 'given' else 6)


class Operations(TorchDispatchMode):
    """Names of the PyTorch operators that would launch a kernel."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator._schema.name
        if not operator.is_view and 'empty' not in name:
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


@needs_triton
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('has_factor', [True, False])
@pytest.mark.parametrize('name', norms(2, 72))
def test_number_of_launches(name, has_factor, dtype, monkeypatch):
    """Nothing but the kernels, whatever the norm."""
    launches = []
    monkeypatch.setattr(
        folded_norm_triton, 'launch', lambda *args, **_: launches.append(1)
    )
    args, gradient = arguments(
        (3, 2, 36, 20), norms(2, 72)[name], has_factor, dtype=dtype
    )
    is_given = name == 'given'
    with Operations() as operations:
        *_, held = passes_triton.fold(*args)
    assert (len(launches), operations.names) == (2 - is_given, [])
    with Operations() as operations:
        passes_triton.fold_backward(*gradient, POSITIONS, held, *args)
    assert (len(launches), operations.names) == (6 - 2 * is_given, [])
    # for the backward pass, no more than two numbers a channel and statistics
    assert sum(t.numel() for t in held) <= 4 * 3 * 72


if __name__ == '__main__':
    write_report(CASES)
