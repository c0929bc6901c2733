"""torch_steps.py against formulas written out."""

import pytest
import torch

from cgnl_mm.ops.fused import torch_steps as steps

B, G, K, C, S = 2, 3, 4, 5, 7  # C per group
LOOSE = {'rtol': 1e-5, 'atol': 1e-5}


def maps(*shapes, dtype=torch.float64):
    return [torch.randn(shape).to(dtype) for shape in shapes]


def channels_last(x):
    """The same values, with the strides of an image's channels_last."""
    return x.mT.contiguous().mT


layouts = pytest.mark.parametrize('layout', [torch.clone, channels_last])


@layouts
def test_project(layout):
    x, weight, d = maps((B, C, S), (G * K, C), (B, G * K, S))
    expected = torch.einsum('kc,bcs->bks', weight, x).reshape(B * G, K, S)
    found = steps.project(layout(x), weight, G)
    torch.testing.assert_close(found, expected)
    expected = torch.einsum('bks,bcs->kc', d, x)
    torch.testing.assert_close(steps.weight_gradient(d, layout(x)), expected)


@pytest.mark.parametrize('powers', [[], [0], [1], [0, 1, 2, 3], [1, 3], [4]])
def test_moments(powers):
    phi, g = maps((B * G, K, S), (B * G, K, S))
    found = steps.moments(phi, g, powers)
    assert list(found) == powers
    for power, value in found.items():
        expected = torch.einsum('rks,rks->r', phi**power, g)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('positions', [1, 7])
def test_statistics(positions):
    (y,) = maps((B * G, K, positions))
    mean, cov = steps.statistics(y)
    expected = torch.einsum('rks->rk', y).unsqueeze(-1) / positions
    torch.testing.assert_close(mean, expected)
    second = torch.einsum('rks,rls->rkl', y, y) / positions
    torch.testing.assert_close(cov, second - expected * expected.mT)


def test_statistics_of_a_large_mean():
    """Mean 1e3 times the deviation: E[y y] - E[y] E[y] would keep nothing."""
    y = 1e3 + torch.randn(B * G, K, 500)
    _, expected = steps.statistics(y.double())
    _, cov = steps.statistics(y)
    torch.testing.assert_close(cov.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('y_dtype', [torch.float64, torch.float32])
@layouts
def test_affine_residual(layout, y_dtype):
    x, shift, matrix, y = maps(
        (B, G * C, S), (B, G * C), (B * G, C, K), (B * G, K, S)
    )
    x, y = layout(x), y.to(y_dtype)
    before = x.clone()
    out = steps.affine_residual(x, shift, matrix, y)
    u = torch.einsum('rck,rks->rcs', matrix, y.double()).view(B, -1, S)
    tight = y_dtype == torch.float64
    torch.testing.assert_close(
        out, x + shift[:, :, None] + u, **({} if tight else LOOSE)
    )
    assert out.stride() == x.stride()
    assert torch.equal(x, before)


@layouts
def test_affine_residual_backward(layout):
    d, y = maps((B, G * C, S), (B * G, K, S))
    d_matrix, d_shift = steps.affine_residual_backward(layout(d), y)
    expected = torch.einsum('rcs,rks->rck', d.view(B * G, C, S), y)
    torch.testing.assert_close(d_matrix, expected)
    torch.testing.assert_close(d_shift, torch.einsum('bcs->bc', d))


@layouts
def test_input_gradient(layout):
    d, matrix, y, inside, shift = maps(
        (B, G * C, S), (B * G, C, K), (B * G, K, S), (B * G, K, K),
        (B * G, K, 1),
    )  # fmt: skip
    d_y = steps.input_gradient(layout(d), matrix, y, inside, shift)
    expected = (
        torch.einsum('rck,rcs->rks', matrix, d.view(B * G, C, S))
        + torch.einsum('rkl,rls->rks', inside, y)
        + shift
    )
    torch.testing.assert_close(d_y, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_types_of_half_precision(dtype):
    x, y = maps((B, G * C, S), (B * G, K, S), dtype=dtype)
    shift, matrix, inside, d_mean = maps(
        (B, G * C), (B * G, C, K), (B * G, K, K), (B * G, K, 1),
        dtype=torch.float32,
    )  # fmt: skip
    assert steps.affine_residual(x, shift, matrix, y).dtype == dtype
    d_y = steps.input_gradient(x, matrix, y, inside, d_mean)
    assert d_y.dtype == dtype
    small = (
        *steps.moments(y, y, [1]).values(),
        *steps.statistics(y),
        *steps.affine_residual_backward(x, y),
    )
    assert {value.dtype for value in small} == {torch.float32}


def test_moments_do_not_overflow():
    phi = torch.full((1, 4, 400), 100.0, dtype=torch.float16)
    found = torch.cat(list(steps.moments(phi, phi, [0, 1, 2]).values()))
    torch.testing.assert_close(found, torch.tensor([16e4, 16e6, 16e8]))


def test_affine_residual_does_not_overflow():
    """The matrix is beyond float16's range, and the result within."""
    x, shift = torch.zeros(1, 16, 20).half(), torch.zeros(1, 16)
    matrix, y = torch.full((1, 16, 16), 2.0**17), x + 2.0**-14
    assert (steps.affine_residual(x, shift, matrix, y) == 128).all()
