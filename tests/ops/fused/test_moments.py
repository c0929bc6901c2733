"""The moments by the Gram matrix are those by the maps, without the maps."""

import pytest
import torch

from cgnl_mm.ops.accuracy import assert_as_exact, errors
from cgnl_mm.ops.fused.moments import MomentsFromGram, MomentsFromMaps, gram

G = 4
WAYS = MomentsFromMaps, MomentsFromGram


def results(way, x, phi, g, d, groups=G, keep=True):
    """Return the moments, what is added to d_x, and two gradients."""
    source = way(groups, [1], x, phi, g)
    moments, kept = source.forward(keep)
    assert keep or kept == []
    d_x = torch.ones_like(x)
    d_phi, d_g = source.backward(kept, {1: d}, d_x)
    return dict(moments=moments[1], x=d_x, phi=d_phi, g=d_g)


@pytest.mark.parametrize('channels', [1, 3, 4, 17, 64])
def test_gram_is_the_whole_product(channels, poison):
    x = torch.randn(channels, 50, dtype=torch.float64)
    for matrix in (x, x.t().contiguous().t()):
        assert torch.allclose(gram(matrix), x @ x.t(), 1e-12, 1e-12)


@pytest.mark.parametrize('keep', [False, True])
@pytest.mark.parametrize('last', [False, True], ids=['', 'channels last'])
@pytest.mark.parametrize('shape', [(1, 12, 1), (3, 12, 35), (2, 24, 7)])
def test_both_ways_agree(shape, last, keep):
    x = torch.randn(shape, dtype=torch.float64)
    if last:
        x = x.mT.contiguous().mT
    phi, g = torch.randn(2, 8, shape[1], dtype=torch.float64)
    d = torch.randn(shape[0] * G, dtype=torch.float64)
    maps, matrix = (results(way, x, phi, g, d, keep=keep) for way in WAYS)
    for name, value in maps.items():
        assert torch.allclose(matrix[name], value, 1e-10, 1e-10), name


@pytest.mark.parametrize('offset', [0.0, 5.0])
def test_gram_is_as_near_to_float64_as_the_maps(offset):
    """At the size of a video's res3: 512 channels, 3136 positions."""
    x = torch.randn(1, 512, 3136) + offset
    phi, g = 0.1 * torch.randn(2, 256, 512)

    def moments(way, *tensors):
        return way(8, [1], *tensors).forward(keep=False)[0]

    truth = moments(WAYS[0], x.double(), phi.double(), g.double())
    maps, matrix = (moments(way, x, phi, g) for way in WAYS)
    assert_as_exact(matrix, maps, truth, times=4, order=2)
    assert max(errors(maps, truth, order=2).values()) < 1e-5


@pytest.mark.parametrize('offset', [10.0, 100.0])
def test_gram_under_a_mean_that_the_weights_ignore(offset):
    x = torch.randn(1, 64, 3136) + offset
    phi, g = 0.1 * torch.randn(2, 32, 64)
    phi, g = (w - w.mean(1, keepdim=True) for w in (phi, g))
    inputs = x, phi, g, torch.ones(G)
    truth = results(WAYS[0], *(value.double() for value in inputs))
    truth = {name: truth[name] for name in ('phi', 'g')}
    maps, matrix = (results(way, *inputs) for way in WAYS)
    assert_as_exact(matrix, maps, truth)


def test_float16_of_a_gradient_below_its_range():
    """Alone it would be zero; its products with the maps are not."""
    x, (phi, g) = torch.rand(1, 16, 50) + 1, torch.rand(2, 8, 16) + 4
    d = torch.full((G,), 1e-8)
    truth = results(WAYS[0], x, phi, g, d)
    found = results(WAYS[0], *(value.half() for value in (x, phi, g)), d)
    for name in ('phi', 'g'):
        torch.testing.assert_close(
            found[name].float(), truth[name], rtol=0.1, atol=0
        )
