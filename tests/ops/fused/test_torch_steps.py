"""torch_steps.py where numbers leave a type; test_block.py has the rest."""

import torch

from cgnl_mm.ops.fused import torch_steps as steps


def test_statistics_of_a_large_mean():
    """Mean 1e3 times the deviation: E[y y] - E[y] E[y] would keep nothing."""
    y = 1e3 + torch.randn(6, 4, 500)
    _, expected = steps.statistics(y.double())
    _, cov = steps.statistics(y)
    torch.testing.assert_close(cov.double(), expected, rtol=0, atol=1e-5)


def test_moments_do_not_overflow():
    phi = torch.full((1, 4, 400), 100.0, dtype=torch.float16)
    found = torch.cat(list(steps.moments(phi, phi, [0, 1, 2]).values()))
    torch.testing.assert_close(found, torch.tensor([16e4, 16e6, 16e8]))


def test_affine_residual_does_not_overflow():
    """The matrix is beyond float16's range, and the result within."""
    x, shift = torch.zeros(1, 16, 20).half(), torch.zeros(1, 16)
    matrix, y = torch.full((1, 16, 16), 2.0**17), x + 2.0**-14
    assert (steps.affine_residual(x, shift, matrix, y) == 128).all()
