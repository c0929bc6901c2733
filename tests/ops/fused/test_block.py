"""The folded block against the published chain of operations."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from cgnl_mm.ops import generalized_nonlocal, taylor_coefficients
from cgnl_mm.ops.fused.block import folded_block
from cgnl_mm.ops.fused.norm import FoldedNorm

C, G = 32, 4
NORMS = ('GN', 'GN1', 'GN8', 'IN', 'BN', 'BN eval', 'none')
SERIES = {
    'dot': (0.0, 1.0),
    'gram': (0.0, 1.0),
    'scaled dot': (0.0, 0.3),
    'scaled gram': (0.0, 0.3),
    'exp': taylor_coefficients('embedded_gaussian', 3),
    'rbf': taylor_coefficients('gaussian_rbf', 3, 0.1),
    'gap': (0.5, 0.0, -0.2),
    'constant': (0.7,),
    'zero': (0.0, 0.0),
    'learnable': (4,),
    'per group': (4,),
    'no attention': None,
}
NAMES = ('x', 'theta', 'phi', 'g', 'z', 'weight', 'bias', 'coefficients')


def arguments(series, norm, dtype, shape=(3, C, 35), std=0.2, groups=G):
    """Tensors by name, and what ``folded_block`` takes besides."""
    k = C // 2
    tensors = dict(
        x=torch.randn(shape).relu(),
        theta=std * torch.randn(k, C),
        phi=std * torch.randn(k, C),
        g=std * torch.randn(k, C),
        z=std * torch.randn(C, k // groups),
        weight=torch.randn(C),
        bias=torch.randn(C),
    )
    mean, var = torch.randn(C), torch.rand(C) + 0.5
    settings = dict(
        groups=groups,
        scale=0.5,
        use_gram='gram' in series,
        norm={
            'GN': FoldedNorm(groups),
            'GN1': FoldedNorm(1),
            'GN8': FoldedNorm(8),
            'IN': FoldedNorm(C),
            'BN': FoldedNorm(C, over_batch=True),
            'BN eval': FoldedNorm(C, mean=mean.to(dtype), var=var.to(dtype)),
            'none': None,
        }[norm],
    )
    coefficients = SERIES[series]
    if series in ('learnable', 'per group'):
        if series == 'per group':
            coefficients = (groups, *coefficients)
        tensors['coefficients'] = 0.3 * torch.randn(coefficients)
    elif series == 'no attention':
        del tensors['phi'], tensors['g']
    else:
        settings['coefficients'] = coefficients
    if norm == 'none':
        del tensors['weight'], tensors['bias']
    tensors = {k: t.to(dtype).requires_grad_() for k, t in tensors.items()}
    return tensors, settings


def in_float64(tensors, settings):
    norm = settings['norm']
    if norm is not None and norm.mean is not None:
        norm = replace(norm, mean=norm.mean.double(), var=norm.var.double())
    wide = {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in tensors.items()
    }
    return wide, dict(settings, norm=norm)


def folded(tensors, settings):
    values = {name: tensors.get(name) for name in NAMES}
    if values['coefficients'] is None:
        del values['coefficients']
    return folded_block(**values, **settings)[0]


def chain(tensors, settings):
    """norm(W_z Y) + X, with Y from the literal affinity."""
    x = tensors['x']

    def project(name):
        return torch.einsum('oc,bc...->bo...', tensors[name], x)

    y = project('theta')
    if 'phi' in tensors:
        y = generalized_nonlocal(
            y,
            project('phi'),
            project('g'),
            tensors.get('coefficients', settings.get('coefficients')),
            groups=settings['groups'],
            scale=settings['scale'],
        )
    z = tensors['z'].unsqueeze(-1)
    u = F.conv1d(y.flatten(2), z, groups=settings['groups'])
    u = u.view(x.shape)
    norm = settings['norm']
    if norm is not None:
        affine = tensors['weight'], tensors['bias']
        if norm.mean is not None:
            u = F.batch_norm(u, norm.mean, norm.var, *affine)
        elif norm.over_batch:
            u = F.batch_norm(u, None, None, *affine, training=True)
        else:
            u = F.group_norm(u, norm.groups, *affine)
    return x + u


def results(function, tensors, settings, direction):
    """Output and every gradient, by name."""
    out = function(tensors, settings)
    gradients = torch.autograd.grad(out, list(tensors.values()), direction)
    return dict(zip(['out', *tensors], [out, *gradients]))


def assert_close(actual, truth):
    for name, value in truth.items():
        assert torch.allclose(actual[name], value, 1e-6, 1e-9), name


def assert_rounds_no_more(actual, plain, truth, times, slack):
    for name, value in truth.items():
        ours = (actual[name].double() - value).abs().max()
        theirs = (plain[name].double() - value).abs().max()
        assert ours <= times * theirs + slack * value.abs().max(), name


def meets(series, norm):
    """Mark a pair as nightly where another series treats the norm alike.

    A norm depends on a series only by whether the series has a factor.
    """
    factors = series in ('dot', 'gram', 'exp', 'no attention')
    return () if factors or norm in ('GN', 'BN') else pytest.mark.nightly


@pytest.mark.parametrize(
    'series, norm',
    [
        pytest.param(*case, marks=meets(*case))
        for case in product(SERIES, NORMS)
    ],
)
def test_equals_the_chain_in_float64(series, norm):
    tensors, settings = arguments(series, norm, torch.float64)
    direction = torch.randn(3, C, 35, dtype=torch.float64)
    if series == 'zero':  # y is zero: no gradient reaches phi and g
        truth = {k: torch.zeros_like(tensors[k]) for k in NAMES[1:4]}
        truth['out'] = chain(tensors, settings)
    else:
        truth = results(chain, tensors, settings, direction)
    for recompute in (False, True):
        options = dict(settings, recompute=recompute)
        assert_close(results(folded, tensors, options, direction), truth)


@pytest.mark.pairs(
    dict(
        shape=[(1, C, 1), (2, C, 5, 7), (1, C, 2, 3, 4)],
        series=['dot', 'gram', 'exp', 'per group', 'no attention'],
        groups=[1, G, C // 2],
    )
)
def test_any_number_of_axes_positions_and_groups(series, shape, groups):
    tensors, settings = arguments(
        series, 'GN', torch.float64, shape, groups=groups
    )
    direction = torch.randn(shape, dtype=torch.float64)
    truth = results(chain, tensors, settings, direction)
    assert_close(results(folded, tensors, settings, direction), truth)


@pytest.mark.pairs(
    {
        'series, dtype': [
            *product(('dot', 'gram', 'exp', 'learnable'), [torch.float32]),
            *product(('dot', 'exp', 'learnable'), [torch.bfloat16]),
        ],
        'norm': NORMS,
        'batch': [1, 3],
    }
)
def test_error_is_at_most_twice_the_chains(series, norm, dtype, batch, poison):
    """flash-attention's rule, for the output and every gradient."""
    tensors, settings = arguments(series, norm, dtype, (batch, C, 9, 7))
    direction = torch.randn(batch, C, 9, 7).to(dtype)
    truth = results(chain, *in_float64(tensors, settings), direction.double())
    plain = results(chain, tensors, settings, direction)
    actual = results(folded, tensors, settings, direction)
    # a few units in the last place, where the chain is nearly exact
    slack = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_rounds_no_more(actual, plain, truth, 2, slack)


@pytest.mark.parametrize('series', ['dot', 'gram'])
def test_gradient_of_phi_and_g_survives_the_group_norm(series):
    """GroupNorm cancels all of a's gradient but eps / (a^2 var + eps) of it.

    The chain gets what is left as a difference of large numbers: noise. Here
    it is a product.
    """
    tensors, settings = arguments(series, 'GN', torch.float32, std=0.6)
    direction = torch.randn(3, C, 35)
    truth = results(chain, *in_float64(tensors, settings), direction.double())
    plain = results(chain, tensors, settings, direction)
    actual = results(folded, tensors, settings, direction)

    def error(result, name):
        return (result[name] - truth[name]).norm() / truth[name].norm()

    for name in ('phi', 'g'):
        assert error(plain, name) > 1e-2
        assert error(actual, name) < 1e-3


@pytest.mark.parametrize('series', ['dot', 'gram'])
def test_channels_last_stays_channels_last(series):
    tensors, settings = arguments(series, 'GN', torch.float64, (3, C, 5, 7))
    direction = torch.randn(3, C, 5, 7, dtype=torch.float64)
    by_maps = dict(settings, use_gram=False)
    expected = results(folded, tensors, by_maps, direction)
    last = torch.channels_last
    x = tensors['x'].detach().to(memory_format=last).requires_grad_()
    actual = results(
        folded, {**tensors, 'x': x}, settings,
        direction.to(memory_format=last),
    )  # fmt: skip
    for name in ('out', 'x'):
        assert actual[name].is_contiguous(memory_format=last)
    for name, value in expected.items():
        assert torch.allclose(actual[name], value, 1e-9, 1e-12), name


def test_mixed_types_of_autocast():
    """x in float32, weights and maps in bfloat16: the sum in float32."""
    tensors, settings = arguments('dot', 'GN', torch.float32)
    cast = {
        name: tensor.to(
            torch.bfloat16 if name in ('theta', 'phi', 'g', 'z') else None
        )
        for name, tensor in tensors.items()
    }
    out = folded(cast, settings)
    assert out.dtype == torch.float32
    out.square().sum().backward()
    for name, tensor in tensors.items():
        assert tensor.grad.dtype == torch.float32, name
        assert tensor.grad.isfinite().all()
    truth = chain(
        {k: t.detach().double() for k, t in tensors.items()}, settings
    )
    assert (out - truth).abs().max() < 0.05


@pytest.mark.parametrize('series', ['dot', 'gram'])
@pytest.mark.parametrize('recompute', [False, True])
def test_what_is_kept_for_the_backward_pass(recompute, series):
    """x, and without recomputation theta, phi and g; else small tensors.

    With the Gram matrix theta, and without recomputation two small matrices a
    sample.
    """
    tensors, settings = arguments(series, 'GN', torch.float32, (2, C, 40, 40))
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        folded(tensors, dict(settings, recompute=recompute))
    x = tensors['x'].nbytes
    maps = 0 if recompute else (1 if series == 'gram' else 3) * x // 2
    assert x + maps <= sum(kept.values()) < x + maps + 0.1 * x


@pytest.mark.pairs(
    dict(
        frozen=['x', 'theta', 'phi', 'g', 'phi g', 'z'],
        recompute=[False, True],
        series=['dot', 'gram'],
    )
)
def test_what_needs_no_gradient_gets_none(series, recompute, frozen):
    """And the others get what they get without."""
    tensors, settings = arguments(series, 'GN', torch.float64)
    direction = torch.randn(3, C, 35, dtype=torch.float64)
    truth = results(chain, tensors, settings, direction)
    for name in frozen.split():
        tensors[name].requires_grad_(False)
    out = folded(tensors, dict(settings, recompute=recompute))
    out.backward(direction)
    for name, tensor in tensors.items():
        if name in frozen.split():
            assert tensor.grad is None
        else:
            assert torch.allclose(tensor.grad, truth[name], 1e-6, 1e-9), name


@pytest.mark.parametrize('series', ['dot', 'gram'])
def test_weights_that_ignore_a_large_mean(series):
    """X X^T without its mean, or the sums would be rounding noise."""
    tensors, settings = arguments(series, 'none', torch.float32)
    with torch.no_grad():
        for name in ('theta', 'phi', 'g'):
            tensors[name] -= tensors[name].mean(1, keepdim=True)
        tensors['x'] += 10
    direction = torch.randn(3, C, 35)
    truth = results(chain, *in_float64(tensors, settings), direction.double())
    plain = results(chain, tensors, settings, direction)
    actual = results(folded, tensors, settings, direction)
    assert_rounds_no_more(actual, plain, truth, 4, 2e-6)


def test_gram_serves_the_dot_product_alone():
    tensors, settings = arguments('exp', 'GN', torch.float32)
    with pytest.raises(ValueError, match='dot product alone.*0, 1, 2, 3'):
        folded(tensors, dict(settings, use_gram=True))


def test_second_derivative_is_refused():
    tensors, settings = arguments('dot', 'GN', torch.float64)
    out = folded(tensors, settings)
    (d_x,) = torch.autograd.grad(
        out.square().sum(), tensors['x'], create_graph=True
    )
    with pytest.raises(RuntimeError, match='no second derivative'):
        d_x.sum().backward()
