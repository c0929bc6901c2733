"""The O(N) operator against the literal affinity: values and gradients."""

import pytest
import torch

from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)
from cgnl_mm.ops.accuracy import errors, output_and_gradients

SERIES = {
    'dot': taylor_coefficients('dot_product'),
    'gauss': taylor_coefficients('embedded_gaussian', 4),
    'rbf': taylor_coefficients('gaussian_rbf', 3, 0.2),
    'author_rbf': taylor_coefficients('gaussian_rbf'),
    'interior_zeros': (0.0, 0.7, 0.0, 0.0, -0.3),
    'trailing_zeros': (-0.4, 0.0, 1.3, 0.0, 0.0),
    'constant': (2.0,),
    'integers': (1, 0, 2),
    'learnable': torch.tensor([0.3, -0.8, 0.5]),
    'learnable constant': torch.tensor([0.3]),
}
SHAPES = {
    '3d': (2, 8, 3, 5, 7),
    '2d': (3, 8, 5, 7),
    '1d': (2, 8, 63),
    'no_spatial_axes': (4, 8),
    'one_position': (2, 8, 1, 1, 1),
    'one_sample': (1, 8, 9, 9),
    'four_axes': (1, 8, 2, 3, 1, 2),
}


def maps(*shape):
    """Make theta, phi, g and the gradient of y in float64."""
    return torch.randn(4, *shape, dtype=torch.float64)


def check(inputs, coefficients, groups, scale=0.37):
    """Compare the output and every gradient with the literal affinity."""
    *inputs, d = inputs
    found = []
    for operator, layout in (
        (cgnl_attention, torch.preserve_format),
        (generalized_nonlocal, torch.contiguous_format),
    ):
        leaves = {
            name: x.detach().clone(memory_format=layout).requires_grad_()
            for name, x in zip(('theta', 'phi', 'g'), inputs)
        }
        y = operator(*leaves.values(), coefficients, groups, scale=scale)
        if isinstance(coefficients, torch.Tensor):
            leaves['coefficients'] = coefficients
        found.append(output_and_gradients(y, d, leaves))
    assert max(errors(*found).values()) <= 1e-11, errors(*found)


@pytest.mark.pairs(dict(shape=SHAPES, series=SERIES, groups=[1, 2, 4, 8]))
def test_equals_affinity(shape, series, groups, poison):
    coefficients = SERIES[series]
    if isinstance(coefficients, torch.Tensor):
        coefficients = coefficients.double().requires_grad_()
    check(maps(*SHAPES[shape]), coefficients, groups)


LAST = torch.channels_last
LAYOUTS = {
    'channels last': lambda x: [t.to(memory_format=LAST) for t in x],
    'transposed': lambda x: x.transpose(3, 4),
    'sliced': lambda x: x[:, :, :, ::2, 1:],
    'expanded': lambda x: [*x[:3, :, :1].expand(-1, -1, 8, -1, -1), x[3]],
    'mixed': lambda x: [x[0], *(t.to(memory_format=LAST) for t in x[1:])],
}


@pytest.mark.parametrize('series', ['dot', 'gauss'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_memory_layouts(layout, series):
    inputs = LAYOUTS[layout](maps(2, 8, 4, 6))
    before = [x.clone() for x in inputs]
    check(inputs, SERIES[series], 4)
    assert all(map(torch.equal, inputs, before))


def test_second_gradients():
    leaves = [x.requires_grad_() for x in maps(2, 4, 3)]
    leaves[3] = torch.randn(3, dtype=torch.float64).requires_grad_()

    def operator(*inputs):
        return cgnl_attention(*inputs, groups=2, scale=0.6)

    assert torch.autograd.gradgradcheck(operator, leaves)


SHAPE = 2, 8, 3


@pytest.mark.parametrize(
    ('theta', 'phi', 'options', 'message'),
    [
        (SHAPE, (2, 8, 4), {}, r'phi \(2, 8, 4\)'),
        ((8,), (8,), {}, r'\(B, C, \*spatial\), got theta \(8,\)'),
        (SHAPE, SHAPE, dict(groups=3), 'groups=3 .* 8 channels'),
        (SHAPE, SHAPE, dict(groups=0), 'groups=0 is not an integer'),
        (SHAPE, SHAPE, dict(groups=2.0), 'groups=2.0 is not an'),
        (SHAPE, SHAPE, dict(coefficients=()), 'empty'),
        (SHAPE, SHAPE, dict(coefficients=torch.ones(8, 4)), r'got \(8, 4\)'),
        (SHAPE, SHAPE, dict(coefficients=torch.tensor(1.0)), r'got \(\)'),
    ],
)
def test_errors_name_the_value(theta, phi, options, message):
    with pytest.raises(ValueError, match=message):
        cgnl_attention(*map(torch.zeros, (theta, phi, theta)), **options)


@pytest.mark.parametrize(
    'coefficients', ['dot_product', [torch.tensor(1.0, requires_grad=True)]]
)
def test_coefficients_must_be_numbers(coefficients):
    """A tensor in a list would lose its gradient without a word."""
    x = torch.zeros(2, 8, 3)
    with pytest.raises(TypeError, match='must be numbers.*got'):
        cgnl_attention(x, x, x, coefficients)
