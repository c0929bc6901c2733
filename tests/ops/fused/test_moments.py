"""The moments by the Gram matrix are those by the maps, without the maps."""

import pytest
import torch

from cgnl_mm.ops.accuracy import assert_as_exact, errors
from cgnl_mm.ops.fused.moments import MomentsFromGram, MomentsFromMaps, gram

G = 4
WAYS = MomentsFromMaps, MomentsFromGram


def results(way, x, phi, g, d):
    """Return the gradients of phi and g."""
    gradients = way(G, [1], x, phi, g).backward([], {1: d}, None)
    return dict(zip(('phi', 'g'), gradients))


@pytest.mark.parametrize('channels', [1, 3, 4, 17, 64])
def test_gram_is_the_whole_product(channels, poison):
    x = torch.randn(channels, 50, dtype=torch.float64)
    for matrix in (x, x.t().contiguous().t()):
        off_diagonal, squares = gram(matrix)
        found = off_diagonal + squares.diag()
        assert torch.allclose(found, x @ x.t(), 1e-12, 1e-12)


@pytest.mark.parametrize('offset', [0.0, 5.0])
def test_gram_is_as_near_to_float64_as_the_maps(offset):
    """At the size of a detector's res2: 256 channels, 8400 positions."""
    x = torch.randn(1, 256, 8400) + offset
    phi, g = 0.1 * torch.randn(2, 128, 256)

    def moments(way, *tensors):
        return way(64, [1], *tensors).forward(keep=False)[0]

    truth = moments(WAYS[0], x.double(), phi.double(), g.double())
    maps, matrix = (moments(way, x, phi, g) for way in WAYS)
    assert_as_exact(matrix, maps, truth, order=2)
    assert max(errors(maps, truth, order=2).values()) < 1e-5


@pytest.mark.parametrize('offset', [10.0, 100.0])
def test_gram_under_a_mean_that_the_weights_ignore(offset):
    x = torch.randn(1, 64, 3136) + offset
    phi, g = 0.1 * torch.randn(2, 32, 64)
    phi, g = (w - w.mean(1, keepdim=True) for w in (phi, g))
    inputs = x, phi, g, torch.ones(G)
    truth = results(WAYS[0], *(value.double() for value in inputs))
    maps, matrix = (results(way, *inputs) for way in WAYS)
    assert_as_exact(matrix, maps, truth)


def test_float16_of_a_gradient_below_its_range():
    """Alone it would be zero; its products with the maps are not."""
    x, (phi, g) = torch.rand(1, 16, 50) + 1, torch.rand(2, 8, 16) + 4
    d = torch.full((G,), 1e-8)
    truth = results(WAYS[0], x, phi, g, d)
    found = results(WAYS[0], *(value.half() for value in (x, phi, g)), d)
    torch.testing.assert_close(
        found, truth, rtol=0.1, atol=0, check_dtype=False
    )
