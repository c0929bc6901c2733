"""Half precision: no worse than the plain form, and it does not overflow."""

import pytest
import torch

from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)
from cgnl_mm.ops.accuracy import assert_as_exact, output_and_gradients

SERIES = {
    'dot': (0.0, 1.0),
    'gauss': taylor_coefficients('embedded_gaussian', 3),
    'rbf': taylor_coefficients('gaussian_rbf', 3, 0.1),
}
HALF = [torch.float16, torch.bfloat16]


def run(operator, inputs, coefficients, dtype):
    """Return the output and the gradients that are computed in a type."""
    *maps, d = (x.to(dtype) for x in inputs)
    leaves = dict(zip(('theta', 'phi', 'g'), maps))
    leaves = {k: x.clone().requires_grad_() for k, x in leaves.items()}
    y = operator(*leaves.values(), coefficients, groups=4)
    assert y.dtype == dtype
    return output_and_gradients(y, d, leaves)


@pytest.mark.pairs(
    dict(
        shape=[(2, 16, 7, 5), (1, 16, 3, 5, 5)],
        series=SERIES,
        dtype=HALF,
    )
)
def test_no_worse_than_plain(shape, series, dtype):
    inputs = [torch.randn(shape).to(dtype) for _ in range(4)]
    case = inputs, SERIES[series]
    truth = run(generalized_nonlocal, *case, torch.float64)
    plain = run(generalized_nonlocal, *case, dtype)
    assert all(value.isfinite().all() for value in plain.values())
    assert_as_exact(run(cgnl_attention, *case, dtype), plain, truth)


# one group of a video: 8 channels x 8 x 28 x 28 products of size 100
VIDEO = (1, 16, 8, 28, 28)
FEW = (1, 16, 9)
RBF = taylor_coefficients('gaussian_rbf')


@pytest.mark.parametrize(
    ('shape', 'coefficients', 'scale', 'dtype', 'result'),
    [
        (VIDEO, (1.0,), 1.0, torch.float16, torch.float32),
        (VIDEO, (0.0, 1.0), 1.0, torch.float16, torch.float32),
        (VIDEO, (0.0, 1.0), 1e-4, torch.float16, None),
        (VIDEO, (0.0, 1.0), 1e-4, torch.bfloat16, None),
        (FEW, RBF, 1.0, torch.float16, None),  # phi^3 alone overflows
    ],
)
def test_finite_where_a_plain_sum_overflows(
    shape, coefficients, scale, dtype, result
):
    """The result is rounded once. It is float32 or fits into its type."""
    theta, phi, g = (5 + 5 * torch.rand(3, *shape)).to(dtype)
    phi = phi * (10 if shape == FEW else 1)
    sums = phi**3, g.half().sum(), (phi * g).half().sum()
    assert any(value.half().isinf().any() for value in sums)
    options = coefficients, 2, scale
    maps = (x.double() for x in (theta, phi, g))
    truth = cgnl_attention(*maps, *options)
    y = cgnl_attention(theta, phi, g, *options, dtype=result)
    assert y.dtype == (result or dtype)
    assert y.isfinite().all()
    rounding = 1e-5 if result else torch.finfo(dtype).eps
    assert ((y - truth) / truth).abs().max() <= rounding


@pytest.mark.parametrize('dtype', HALF)
def test_sums_stay_float32_under_autocast(dtype):
    inputs = [torch.randn(1, 16, 30, 30) for _ in range(4)]
    expected = run(cgnl_attention, inputs, SERIES['gauss'], torch.float32)
    with torch.autocast('cpu', dtype=dtype):
        y = run(cgnl_attention, inputs, SERIES['gauss'], torch.float32)
    assert all(torch.equal(y[name], expected[name]) for name in expected)
