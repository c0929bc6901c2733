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
    check(maps(*SHAPES[shape]), SERIES[series], groups)


@pytest.mark.pairs(
    dict(
        shape=['3d', 'no_spatial_axes', 'one_position'],
        order=[0, 1, 3],
        of_each_group=[False, True],
        groups=[1, 4],
    )
)
def test_learnable_equals_affinity(shape, order, of_each_group, groups):
    size = (groups, order + 1) if of_each_group else (order + 1,)
    coefficients = torch.randn(size, dtype=torch.float64).requires_grad_()
    check(maps(*SHAPES[shape]), coefficients, groups)


def layouts():
    x = maps(2, 8, 4, 6)
    yield [t.to(memory_format=torch.channels_last) for t in x]
    yield x.transpose(3, 4)
    yield x[:, :, :, ::2, 1:]
    # an expanded map and mixed layouts
    theta, phi, g, d = x
    yield (
        theta,
        phi[:, :1].expand(-1, 8, -1, -1),
        g.contiguous(memory_format=torch.channels_last),
        d,
    )
    yield [
        t.to(memory_format=torch.channels_last_3d) for t in maps(2, 8, 2, 4, 6)
    ]


@pytest.mark.parametrize('series', ['dot', 'gauss'])
@pytest.mark.parametrize(
    'inputs',
    layouts(),
    ids=['channels_last', 'transposed', 'sliced', 'expanded', 'cl_3d'],
)
def test_memory_layouts(inputs, series):
    before = [x.clone() for x in inputs]
    check(inputs, SERIES[series], 4)
    assert all(map(torch.equal, inputs, before))


@pytest.mark.parametrize(
    'size', [(3,), (2, 3), None], ids=['shared', 'per_group', 'fixed']
)
def test_first_and_second_gradients(size):
    leaves = [x.requires_grad_() for x in maps(2, 4, 3)[:3]]
    fixed = [] if size else [(0.5, 0.0, 0.3)]
    if size:
        leaves.append(torch.randn(size, dtype=torch.float64).requires_grad_())

    def operator(*inputs):
        return cgnl_attention(*inputs, *fixed, groups=2, scale=0.6)

    assert torch.autograd.gradcheck(operator, leaves)
    assert torch.autograd.gradgradcheck(operator, leaves)


def test_groups_and_samples_do_not_mix():
    theta, phi, g, _ = maps(2, 8, 5)
    y = cgnl_attention(theta, phi, g, groups=4)
    changed = g.clone()
    changed[1, 2:4] += 1  # the second group of the second sample
    other = cgnl_attention(theta, phi, changed, groups=4)
    differs = (other != y).any(-1)
    assert differs[1, 2:4].all()
    assert differs.sum() == 2


@pytest.mark.parametrize(
    ('shapes', 'options', 'message'),
    [
        (((2, 8, 3), (2, 8, 4), (2, 8, 3)), {}, r'phi \(2, 8, 4\)'),
        (((8,),) * 3, {}, r'\(B, C, \*spatial\), got theta \(8,\)'),
        (((2, 8, 3),) * 3, dict(groups=3), 'groups=3 .* 8 channels'),
        (((2, 8, 3),) * 3, dict(groups=0), 'groups=0 is not an integer'),
        (((2, 8, 3),) * 3, dict(groups=2.0), 'groups=2.0 is not an'),
        (((2, 8, 3),) * 3, dict(coefficients=()), 'empty'),
        (
            ((2, 8, 3),) * 3,
            dict(coefficients=torch.ones(3, 4)),
            r'\(8, P \+ 1\) for 8 groups, got \(3, 4\)',
        ),
        (
            ((2, 8, 3),) * 3,
            dict(coefficients=torch.tensor(1.0)),
            r'got \(\)',
        ),
    ],
)
def test_errors_name_the_value(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        cgnl_attention(*(torch.zeros(s) for s in shapes), **options)


@pytest.mark.parametrize(
    'coefficients', ['dot_product', [torch.tensor(1.0, requires_grad=True)]]
)
def test_coefficients_must_be_numbers(coefficients):
    """A tensor in a list would lose its gradient without a word."""
    x = torch.zeros(2, 8, 3)
    with pytest.raises(TypeError, match='must be numbers.*got'):
        cgnl_attention(x, x, x, coefficients)
