"""passes.py against formulas written out."""

import pytest
import torch

from cgnl_mm.ops.fused import torch_steps as passes

B, G, K, C, S = 2, 3, 4, 5, 7  # C per group
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
LOOSE = {'rtol': 1e-5, 'atol': 1e-5}


def maps(*shapes, dtype=torch.float64):
    return [torch.randn(shape).to(dtype) for shape in shapes]


def channels_last(x):
    """The same values, strides as of an image's channels_last."""
    return x.mT.contiguous().mT


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_wide(dtype):
    wide = passes.wide(torch.ones(2, dtype=dtype))
    double = dtype == torch.float64
    assert wide.dtype == (torch.float64 if double else torch.float32)


@pytest.mark.parametrize('layout', [torch.clone, channels_last])
def test_project(layout):
    x, weight = maps((B, C, S), (K, C))
    expected = torch.einsum('kc,bcs->bks', weight, x)
    torch.testing.assert_close(passes.project(layout(x), weight), expected)


@pytest.mark.parametrize('powers', [[], [0], [1], [0, 1, 2, 3], [1, 3], [4]])
def test_inner_products(powers):
    phi, g = maps((B * G, K, S), (B * G, K, S))
    sums = passes.inner_products(phi, g, powers)
    assert len(sums) == len(powers)
    for power, value in zip(powers, sums):
        expected = torch.einsum('rks,rks->r', phi**power, g)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('positions', [1, 7])
def test_statistics(positions):
    (y,) = maps((B * G, K, positions))
    mean, cov = passes.statistics(y)
    expected = torch.einsum('rks->rk', y).unsqueeze(-1) / positions
    torch.testing.assert_close(mean, expected)
    second = torch.einsum('rks,rls->rkl', y, y) / positions
    torch.testing.assert_close(cov, second - expected * expected.mT)


def test_statistics_of_a_large_mean():
    """Mean 1e3 times the deviation: E[y y] - E[y] E[y] would keep nothing."""
    y = 1e3 + torch.randn(B * G, K, 500)
    _, expected = passes.statistics(y.double())
    _, cov = passes.statistics(y)
    assert cov.dtype == torch.float32
    torch.testing.assert_close(cov.double(), expected, rtol=0, atol=1e-5)
    mean = y.mean(-1, keepdim=True)
    plain = torch.bmm(y, y.mT) / 500 - mean * mean.mT
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.parametrize('y_dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('layout', [torch.clone, channels_last])
def test_apply(layout, y_dtype):
    x, shift, matrix, y = maps(
        (B, G * C, S), (B, G * C), (B * G, C, K), (B * G, K, S)
    )
    y = y.to(y_dtype)
    x = layout(x)
    before = x.clone()
    out = passes.apply(x, shift, matrix, y)
    u = torch.einsum('rck,rks->rcs', matrix, y.double()).view(B, -1, S)
    tight = y_dtype == torch.float64
    torch.testing.assert_close(
        out, x + shift[:, :, None] + u, **({} if tight else LOOSE)
    )
    assert out.stride() == x.stride()
    assert torch.equal(x, before)


@pytest.mark.parametrize('layout', [torch.clone, channels_last])
def test_apply_backward(layout):
    d, y = maps((B, G * C, S), (B * G, K, S))
    d_matrix, d_shift = passes.apply_backward(layout(d), y)
    expected = torch.einsum('rcs,rks->rck', d.view(B * G, C, S), y)
    torch.testing.assert_close(d_matrix, expected)
    torch.testing.assert_close(d_shift, torch.einsum('bcs->bc', d))


@pytest.mark.parametrize('layout', [torch.clone, channels_last])
def test_input_gradient(layout):
    d, matrix, y, inside, shift = maps(
        (B, G * C, S), (B * G, C, K), (B * G, K, S), (B * G, K, K),
        (B * G, K, 1),
    )  # fmt: skip
    d_y = passes.input_gradient(layout(d), matrix, y, inside, shift)
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
    assert passes.apply(x, shift, matrix, y).dtype == dtype
    d_y = passes.input_gradient(x, matrix, y, inside, d_mean)
    assert d_y.dtype == dtype
    small = (
        *passes.inner_products(y, y, [1]),
        *passes.statistics(y),
        *passes.apply_backward(x, y),
    )
    assert {value.dtype for value in small} == {torch.float32}


def test_inner_products_do_not_overflow():
    phi = torch.full((1, 4, 400), 100.0, dtype=torch.float16)
    sums = torch.cat(passes.inner_products(phi, phi, [0, 1, 2]))
    torch.testing.assert_close(sums, torch.tensor([16e4, 16e6, 16e8]))


def test_apply_does_not_overflow():
    """A matrix beyond float16's range, the result within."""
    x, shift = torch.zeros(1, 16, 20).half(), torch.zeros(1, 16)
    matrix, y = torch.full((1, 16, 16), 2.0**17), x + 2.0**-14
    assert (passes.apply(x, shift, matrix, y) == 128).all()
