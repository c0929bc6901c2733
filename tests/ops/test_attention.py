"""The O(N) operator against the literal affinity: values and gradients."""

import pytest
import torch

from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)

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


def maps(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(
            shape, dtype=torch.float64, generator=generator
        ).requires_grad_()
        for name in ('theta', 'phi', 'g', 'grad_y')
    }


def results(operator, inputs, coefficients, groups, scale):
    """Output and the gradient of each input, by name."""
    theta, phi, g, grad_y = inputs.values()
    named = dict(theta=theta, phi=phi, g=g)
    if isinstance(coefficients, torch.Tensor):
        named['coefficients'] = coefficients
    y = operator(theta, phi, g, coefficients, groups=groups, scale=scale)
    grads = torch.autograd.grad(
        y, list(named.values()), grad_y, materialize_grads=True
    )
    found = {f'grad_{name}': grad for name, grad in zip(named, grads)}
    return {'y': y, **found}


def assert_close(ours, reference):
    """Same names, same values, relative to each tensor's largest entry."""
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        assert ours[name].shape == expected.shape, name
        error = (ours[name] - expected).abs().max().item()
        assert error <= 1e-11 * expected.abs().max().item(), (name, error)


def check(inputs, coefficients, groups, scale=1.0):
    assert_close(
        results(cgnl_attention, inputs, coefficients, groups, scale),
        results(generalized_nonlocal, inputs, coefficients, groups, scale),
    )


@pytest.mark.pairs(dict(shape=SHAPES, series=SERIES, groups=[1, 2, 4, 8]))
def test_equals_affinity(shape, series, groups, poison):
    check(maps(SHAPES[shape]), SERIES[series], groups, scale=0.37)


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
    check(maps(SHAPES[shape]), coefficients, groups, scale=0.37)


def test_zero_series_is_zero():
    inputs = maps((2, 8, 3))
    theta, phi, g, _ = inputs.values()
    y = cgnl_attention(theta, phi, g, (0.0, 0.0), groups=2)
    assert y.shape == theta.shape
    assert not y.any()


def layouts():
    x = {k: v.detach() for k, v in maps((2, 8, 4, 6)).items()}
    yield {k: v.to(memory_format=torch.channels_last) for k, v in x.items()}
    yield {k: v.transpose(2, 3) for k, v in x.items()}
    yield {k: v[:, :, ::2, 1:] for k, v in x.items()}
    # an expanded map and mixed layouts
    x['phi'] = x['phi'][:, :1].expand(-1, 8, -1, -1)
    x['g'] = x['g'].contiguous(memory_format=torch.channels_last)
    yield x
    x = {k: v.detach() for k, v in maps((2, 8, 2, 4, 6)).items()}
    yield {k: v.to(memory_format=torch.channels_last_3d) for k, v in x.items()}


@pytest.mark.parametrize('series', ['dot', 'gauss'])
@pytest.mark.parametrize(
    'inputs',
    layouts(),
    ids=['channels_last', 'transposed', 'sliced', 'expanded', 'cl_3d'],
)
def test_memory_layouts(inputs, series):
    inputs = {k: v.detach().requires_grad_() for k, v in inputs.items()}
    contiguous = {
        k: v.detach().clone(memory_format=torch.contiguous_format)
        for k, v in inputs.items()
    }
    contiguous = {k: v.requires_grad_() for k, v in contiguous.items()}
    coefficients = SERIES[series]
    assert_close(
        results(cgnl_attention, inputs, coefficients, 4, 1.0),
        results(generalized_nonlocal, contiguous, coefficients, 4, 1.0),
    )


def test_inputs_are_not_written():
    inputs = maps((2, 8, 5))
    before = {k: v.detach().clone() for k, v in inputs.items()}
    results(cgnl_attention, inputs, SERIES['gauss'], 2, 0.5)
    assert all(torch.equal(inputs[k], before[k]) for k in inputs)


@pytest.mark.parametrize(
    'size', [(3,), (2, 3), None], ids=['shared', 'per_group', 'fixed']
)
def test_first_and_second_gradients(size):
    theta, phi, g, _ = (x[:, :4, :3] for x in maps((2, 8, 5)).values())
    leaves = [x.detach().clone().requires_grad_() for x in (theta, phi, g)]
    fixed = [] if size else [(0.5, 0.0, 0.3)]
    if size:
        leaves.append(torch.randn(size, dtype=torch.float64).requires_grad_())

    def operator(*inputs):
        return cgnl_attention(*inputs, *fixed, groups=2, scale=0.6)

    assert torch.autograd.gradcheck(operator, leaves)
    assert torch.autograd.gradgradcheck(operator, leaves)


def test_groups_and_samples_do_not_mix():
    theta, phi, g, _ = maps((2, 8, 5)).values()
    y = cgnl_attention(theta, phi, g, groups=4)
    changed = g.detach().clone()
    changed[1, 2:4] += 1  # the second group of the second sample
    other = cgnl_attention(theta, phi, changed, groups=4)
    differs = (other != y).any(-1)
    assert differs[1, 2:4].all()
    assert differs.sum() == 2


@pytest.mark.parametrize(
    ('shapes', 'options', 'message'),
    [
        (((2, 8, 3), (2, 8, 4), (2, 8, 3)), {}, r'phi \(2, 8, 4\)'),
        (((8,),) * 3, {}, r'\(B, C, \*spatial\), got \(8,\)'),
        (((2, 8, 3),) * 3, dict(groups=3), 'groups=3 .* 8 channels'),
        (((2, 8, 3),) * 3, dict(groups=0), '>= 1, got 0'),
        (((2, 8, 3),) * 3, dict(groups=2.0), '>= 1, got 2.0'),
        (((2, 8, 3),) * 3, dict(groups=None), '>= 1, got None'),
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
