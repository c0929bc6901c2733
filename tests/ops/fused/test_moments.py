"""<phi, g> by the Gram matrix: what the maps give, without the maps."""

import pytest
import torch

from cgnl_mm.ops.fused.moments import GramSums, MapSums, gram

G = 4


@pytest.mark.parametrize('channels', [1, 3, 4, 17, 64])
def test_gram_is_the_whole_product(channels, poison):
    x = torch.randn(channels, 50, dtype=torch.float64)
    for matrix in (x, x.t().contiguous().t()):
        assert torch.allclose(gram(matrix), x @ x.t(), 1e-12, 1e-12)


@pytest.mark.parametrize('last', [False, True], ids=['', 'channels last'])
@pytest.mark.parametrize('shape', [(1, 12, 1), (3, 12, 35), (2, 24, 7)])
def test_both_ways_agree(shape, last):
    """Sums, and what they add to three gradients."""
    x = torch.randn(shape, dtype=torch.float64)
    if last:
        x = x.mT.contiguous().mT
    phi, g = torch.randn(2, 8, shape[1], dtype=torch.float64)
    d_sums = [torch.randn(shape[0] * G, dtype=torch.float64)]
    results = []
    for source in (
        MapSums(G, [1], recompute=False),
        GramSums(G, keep=True),
    ):
        d_x = torch.ones_like(x)
        sums, held = source.forward(x, phi, g)
        d_weights = source.backward(x, phi, g, held, d_sums, d_x)
        results.append([*sums, *d_weights, d_x])
    for maps, matrix in zip(*results):
        assert torch.allclose(matrix, maps, 1e-10, 1e-10)


def test_nothing_is_kept_without_a_backward_pass():
    x, (phi, g) = torch.randn(2, 12, 35), torch.randn(2, 8, 12)
    assert GramSums(G, keep=False).forward(x, phi, g)[1] == []


@pytest.mark.parametrize('offset', [0.0, 5.0])
def test_gram_is_as_near_to_float64_as_the_maps(offset):
    """At the size of a video's res3: 512 channels, 3136 positions."""
    x = torch.randn(1, 512, 3136) + offset
    phi, g = 0.1 * torch.randn(2, 256, 512)
    ways = MapSums(8, [1], True), GramSums(8, keep=False)
    (truth,), _ = ways[0].forward(x.double(), phi.double(), g.double())
    errors = [
        ((way.forward(x, phi, g)[0][0] - truth) / truth).norm() for way in ways
    ]
    assert max(errors) < 1e-5 and errors[1] < 4 * errors[0]
