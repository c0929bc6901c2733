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


def large(shape=VIDEO):
    return [(5 + 5 * torch.rand(shape)).half() for _ in range(3)]


@pytest.mark.parametrize('coefficients', [(1.0,), (0.0, 1.0)], ids=str)
def test_finite_where_a_plain_sum_overflows(coefficients):
    theta, phi, g = large()
    assert g.sum().isinf() and (phi * g).sum().isinf()
    options = dict(coefficients=coefficients, groups=2)
    truth = cgnl_attention(*(x.double() for x in (theta, phi, g)), **options)
    y = cgnl_attention(theta, phi, g, **options, dtype=torch.float32)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, truth.float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize('dtype', HALF)
def test_scaled_result_fits(dtype):
    """The sum overflows, the scaled result does not: half in, half out."""
    theta, phi, g = (x.to(dtype) for x in large())
    truth = cgnl_attention(
        *(x.double() for x in (theta, phi, g)), groups=2, scale=1e-4
    )
    y = cgnl_attention(theta, phi, g, groups=2, scale=1e-4)
    assert y.dtype == dtype
    assert y.isfinite().all()
    error = ((y - truth) / truth).abs().max()
    assert error <= torch.finfo(dtype).eps  # one rounding, of the result


def test_high_powers_do_not_overflow():
    """phi^3 alone is beyond float16 here."""
    theta, phi, g = large((1, 8, 9))
    phi = phi * 10
    assert (phi**3).isinf().any()
    c = taylor_coefficients('gaussian_rbf')
    truth = cgnl_attention(*(x.double() for x in (theta, phi, g)), c, 2)
    y = cgnl_attention(theta, phi, g, c, 2)
    assert y.isfinite().all()
    torch.testing.assert_close(y, truth.half(), rtol=1e-3, atol=0)


@pytest.mark.parametrize('dtype', HALF)
def test_sums_stay_float32_under_autocast(dtype):
    inputs = [torch.randn(1, 16, 30, 30) for _ in range(4)]
    expected = run(cgnl_attention, inputs, SERIES['gauss'], torch.float32)
    with torch.autocast('cpu', dtype=dtype):
        y = run(cgnl_attention, inputs, SERIES['gauss'], torch.float32)
    assert all(torch.equal(y[name], expected[name]) for name in expected)


def test_float64_is_kept():
    inputs = [torch.randn(1, 8, 5, dtype=torch.float64) for _ in range(4)]
    y = run(cgnl_attention, inputs, (0.0, 1.0), torch.float64)['out']
    truth = generalized_nonlocal(*inputs[:3], 'dot_product', groups=4)
    torch.testing.assert_close(y, truth, rtol=1e-13, atol=1e-13)
