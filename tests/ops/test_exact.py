"""The truth itself, against loops over plain numbers."""

import math

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
    return [torch.randn(shape, dtype=torch.float64) for _ in range(3)]


def loops(theta, phi, g, f, groups, scale):
    """Eq. 8, one pair of numbers at a time."""
    batch, channels, positions = theta.shape
    y = torch.zeros_like(theta)
    for sample in range(batch):
        for c in range(channels):
            for i in range(positions):
                total = 0.0
                for d in range(channels):
                    if c * groups // channels != d * groups // channels:
                        continue
                    for j in range(positions):
                        a = theta[sample, c, i].item()
                        b = phi[sample, d, j].item()
                        total += f(a, b) * g[sample, d, j].item()
                y[sample, c, i] = scale * total
    return y


@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('kernel', KERNELS, ids=str)
def test_equals_loops(kernel, groups):
    theta, phi, g = maps(2, 4, 3)
    y = generalized_nonlocal(
        theta, phi, g, kernel, groups=groups, gamma=0.3, scale=0.7
    )
    reference = loops(theta, phi, g, KERNELS[kernel], groups, 0.7)
    torch.testing.assert_close(y, reference, rtol=1e-12, atol=1e-12)


def test_coefficients_of_each_group():
    """A row of coefficients a group: as each group with its own kernel."""
    theta, phi, g = maps(2, 4, 3)
    rows = torch.randn(2, 3, dtype=torch.float64)
    y = generalized_nonlocal(theta, phi, g, rows, groups=2)
    for group, row in enumerate(rows):
        part = slice(2 * group, 2 * group + 2)
        alone = generalized_nonlocal(
            theta[:, part], phi[:, part], g[:, part], row.tolist(), groups=1
        )
        torch.testing.assert_close(y[:, part], alone)


def test_full_precision_under_autocast():
    theta, phi, g = (x.float() for x in maps(1, 4, 9))
    expected = generalized_nonlocal(theta, phi, g, groups=2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = generalized_nonlocal(theta, phi, g, groups=2)
    assert y.dtype == torch.float32
    assert torch.equal(y, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kernel='softmax'), "got 'softmax'"),
        (dict(kernel='gaussian_rbf', gamma=-1.0), 'gamma .* got -1.0'),
        (dict(kernel=()), 'must not be empty'),
        (dict(kernel=torch.ones(3, 2)), r'\(2, P \+ 1\) .* got \(3, 2\)'),
    ],
)
def test_errors_name_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        generalized_nonlocal(*maps(1, 4, 3), groups=2, **options)


def test_large_affinity_is_refused():
    x = torch.zeros(1).expand(1, 64, 32, 32)
    with pytest.raises(ValueError, match='8 x 8192 x 8192 .*cgnl_attention'):
        generalized_nonlocal(x, x, x, groups=8)
