"""The coefficients, and that their series approach the true kernels."""

import math

import pytest
import torch

from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)


def test_coefficients_by_hand():
    assert taylor_coefficients('dot_product', 3) == (0.0, 1.0, 0.0, 0.0)
    assert taylor_coefficients('embedded_gaussian', 4) == pytest.approx(
        (1, 1, 1 / 2, 1 / 6, 1 / 24)
    )
    beta = math.exp(-0.5)
    assert taylor_coefficients('gaussian_rbf', 2, 0.25) == pytest.approx(
        (beta, beta / 2, beta / 8)
    )
    # the author's settings
    assert taylor_coefficients('gaussian_rbf') == pytest.approx(
        [math.exp(-2e-4) * c for c in (1, 2e-4, 2e-8, 8e-12 / 6)]
    )


@pytest.mark.parametrize('kernel', ['embedded_gaussian', 'gaussian_rbf'])
def test_error_falls_with_order(kernel):
    """RBF has its true beta, which the coefficients replace by its value at 1.

    exp(-gamma (a - b)^2) = exp(-gamma a^2) exp(2 gamma a b) exp(-gamma b^2):
    the outer factors belong to the positions of y and of g.
    """
    gamma = 0.4
    maps = torch.rand(3, 2, 6, 3, 5, dtype=torch.float64) * 2 - 1
    truth = generalized_nonlocal(*maps, kernel, groups=2, gamma=gamma)
    theta, phi, g = maps
    beta, inner, outer = 1.0, 1.0, 1.0
    if kernel == 'gaussian_rbf':
        beta = math.exp(-2 * gamma)
        inner, outer = (torch.exp(-gamma * x**2) for x in (phi, theta))
    errors = []
    for order in range(9):
        c = taylor_coefficients(kernel, order, gamma)
        y = outer * cgnl_attention(theta, phi, inner * g, c, 2, 1 / beta)
        errors.append((y - truth).abs().max().item())
    assert all(b < a / 1.5 for a, b in zip(errors, errors[1:])), errors
    assert errors[-1] < 1e-4 * errors[0], errors
