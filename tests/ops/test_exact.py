"""The truth itself, against loops over plain numbers."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from cgnl_mm.ops import generalized_nonlocal

KERNELS = {
    'dot_product': lambda a, b: a * b,
    'embedded_gaussian': lambda a, b: math.exp(a * b),
    'gaussian_rbf': lambda a, b: math.exp(-0.3 * (a - b) ** 2),
    (0.5, 0.0, -2.0): lambda a, b: 0.5 - 2 * (a * b) ** 2,
}


def maps(*shape):
    return torch.randn(3, *shape, dtype=torch.float64)


def loops(theta, phi, g, f, groups, scale):
    """Eq. 8, one pair of numbers at a time."""
    channels = theta.shape[1]
    y = torch.zeros_like(theta)
    pairs = product(np.ndindex(theta.shape), np.ndindex(phi.shape[1:]))
    for (n, c, i), (d, j) in pairs:
        if c * groups // channels == d * groups // channels:
            a, b = theta[n, c, i].item(), phi[n, d, j].item()
            y[n, c, i] += scale * f(a, b) * g[n, d, j]
    return y


@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('kernel', KERNELS, ids=str)
def test_equals_loops(kernel, groups):
    inputs = maps(2, 4, 3)
    y = generalized_nonlocal(*inputs, kernel, groups, gamma=0.3, scale=0.7)
    reference = loops(*inputs, KERNELS[kernel], groups, 0.7)
    torch.testing.assert_close(y, reference, rtol=1e-12, atol=1e-12)


def test_full_precision_under_autocast():
    inputs = [x.float() for x in maps(1, 4, 9)]
    expected = generalized_nonlocal(*inputs, groups=2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = generalized_nonlocal(*inputs, groups=2)
    assert y.dtype == torch.float32
    assert torch.equal(y, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kernel='softmax'), "got 'softmax'"),
        (dict(kernel='gaussian_rbf', gamma=-1.0), 'gamma .* got -1.0'),
        (dict(kernel=torch.ones(3, 2)), r'\(P \+ 1\), got \(3, 2\)'),
    ],
)
def test_errors_name_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        generalized_nonlocal(*maps(1, 4, 3), groups=2, **options)


def test_large_affinity_is_refused():
    x = torch.zeros(1).expand(1, 64, 32, 32)
    with pytest.raises(ValueError, match='8 x 8192 x 8192 .*cgnl_attention'):
        generalized_nonlocal(x, x, x, groups=8)
