"""The fused block against the published chain of operations."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from cgnl_mm.ops import generalized_nonlocal, taylor_coefficients
from cgnl_mm.ops.accuracy import (
    assert_as_exact,
    errors,
    output_and_gradients,
)
from cgnl_mm.ops.fused.block import fused_block
from cgnl_mm.ops.fused.plan import Norm, Plan, Weights
from cgnl_mm.ops.fused.series import Series

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
    'learnable': None,
    'no attention': (),
}
SCALE = 0.5


def arguments(series, norm, dtype, shape=(3, C, 35), std=0.2, groups=G):
    """Make a plan, the coefficients of its series, and tensors by name."""
    k = C // 2
    shapes = dict(x=shape, theta=(k, C), phi=(k, C), g=(k, C))
    shapes.update(z=(C, k // groups), norm_weight=(C,), norm_bias=(C,))
    tensors = {name: torch.randn(size) for name, size in shapes.items()}
    tensors['x'].relu_()
    for name in ('theta', 'phi', 'g', 'z'):
        tensors[name].mul_(std)
    if series == 'learnable':
        tensors['coefficients'] = 0.3 * torch.randn(4)
    elif series == 'no attention':
        del tensors['phi'], tensors['g']
    mean, var = torch.randn(C).to(dtype), (torch.rand(C) + 0.5).to(dtype)
    eps = 1e-5
    if norm == 'none':  # a scale of one
        tensors['norm_weight'], tensors['norm_bias'] = var / var, 0 * mean
        mean, var, eps = 0 * mean, var / var, 0.0
    norms = {'GN': groups, 'GN1': 1, 'GN8': 8}
    norm = Norm(
        norms.get(norm, C),
        eps,
        norm == 'BN',
        *((mean, var) if norm in ('BN eval', 'none') else ()),
    )
    tensors = {k: t.to(dtype).requires_grad_() for k, t in tensors.items()}
    coefficients = tensors.get('coefficients', SERIES[series])
    used = Series(coefficients, groups, SCALE)
    plan = Plan(groups, norm, used, use_gram='gram' in series)
    return (plan, coefficients), tensors


def in_float64(tensors):
    return {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in tensors.items()
    }


def folded(settings, tensors):
    weights = dict(tensors)
    return fused_block(settings[0], weights.pop('x'), Weights(**weights))[0]


def chain(settings, tensors):
    """Compute norm(W_z Y) + X, with Y from the literal affinity."""
    (plan, coefficients), x = settings, tensors['x']

    def project(name):
        return torch.einsum('oc,bc...->bo...', tensors[name], x)

    y = project('theta')
    if 'phi' in tensors:
        coefficients = tensors.get('coefficients', coefficients)
        y = generalized_nonlocal(
            y, project('phi'), project('g'), coefficients,
            groups=plan.groups, scale=SCALE,
        )  # fmt: skip
    z = tensors['z'].unsqueeze(-1)
    u = F.conv1d(y.flatten(2), z, groups=plan.groups).view(x.shape)
    norm, affine = plan.norm, (tensors['norm_weight'], tensors['norm_bias'])
    if norm.mean is not None:
        mean, var = norm.mean.to(x.dtype), norm.var.to(x.dtype)
        return x + F.batch_norm(u, mean, var, *affine, eps=norm.eps)
    if norm.over_batch:
        return x + F.batch_norm(u, None, None, *affine, training=True)
    return x + F.group_norm(u, norm.groups, *affine)


def results(function, settings, tensors, d):
    return output_and_gradients(function(settings, tensors), d, tensors)


def assert_close(actual, truth):
    for name, value in truth.items():
        assert torch.allclose(actual[name], value, 1e-6, 1e-9), name


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
    (plan, coefficients), tensors = arguments(series, norm, torch.float64)
    d = torch.randn(3, C, 35, dtype=torch.float64)
    truth = results(chain, (plan, coefficients), tensors, d)
    for recompute in (False, True):
        settings = replace(plan, recompute=recompute), coefficients
        assert_close(results(folded, settings, tensors, d), truth)


@pytest.mark.pairs(
    dict(
        shape=[(1, C, 1), (2, C, 5, 7), (1, C, 2, 3, 4)],
        series=['dot', 'gram', 'exp', 'learnable', 'no attention'],
        groups=[1, G, C // 2],
    )
)
def test_any_number_of_axes_positions_and_groups(series, shape, groups):
    case = arguments(series, 'GN', torch.float64, shape, groups=groups)
    d = torch.randn(shape, dtype=torch.float64)
    assert_close(results(folded, *case, d), results(chain, *case, d))


def check_rounding(case, d, slack=2e-6):
    """Compare with the chain in the same type; return all three results."""
    settings, tensors = case
    truth = results(chain, settings, in_float64(tensors), d.double())
    plain = results(chain, settings, tensors, d)
    actual = results(folded, settings, tensors, d)
    assert_as_exact(actual, plain, truth, slack=slack)
    return actual, plain, truth


@pytest.mark.pairs(
    {
        'series, dtype': [
            *product(('dot', 'gram', 'exp', 'learnable'), [torch.float32]),
            ('dot', torch.bfloat16),
            ('no attention', torch.bfloat16),
        ],
        'norm': NORMS,
        'batch': [1, 3],
    }
)
def test_error_is_at_most_twice_the_chains(series, norm, dtype, batch, poison):
    """The rule of flash-attention, for the output and every gradient."""
    case = arguments(series, norm, dtype, (batch, C, 9, 7))
    # a few units in the last place, where the chain is nearly exact
    slack = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    check_rounding(case, torch.randn(batch, C, 9, 7).to(dtype), slack=slack)


@pytest.mark.parametrize('series', ['dot', 'gram'])
def test_gradient_of_phi_and_g_survives_the_group_norm(series):
    """GroupNorm cancels all of a's gradient but eps / (a^2 var + eps) of it.

    The chain gets what is left as a difference of large numbers: noise. Here
    it is a product.
    """
    case = arguments(series, 'GN', torch.float32, std=0.6)
    actual, plain, truth = check_rounding(case, torch.randn(3, C, 35))
    truth = {name: truth[name] for name in ('phi', 'g')}
    assert min(errors(plain, truth, order=2).values()) > 1e-2
    assert max(errors(actual, truth, order=2).values()) < 1e-3


@pytest.mark.parametrize('series', ['dot', 'gram'])
def test_channels_last_stays_channels_last(series):
    shape = 3, C, 5, 7
    settings, tensors = arguments(series, 'GN', torch.float64, shape)
    d = torch.randn(shape, dtype=torch.float64)
    expected = results(folded, settings, tensors, d)
    tensors['x'], d = (
        t.detach().to(memory_format=torch.channels_last).requires_grad_()
        for t in (tensors['x'], d)
    )
    actual = results(folded, settings, tensors, d)
    for name in ('out', 'x'):
        assert actual[name].is_contiguous(memory_format=torch.channels_last)
    assert_close(actual, expected)


@pytest.mark.pairs(
    dict(
        frozen=['x', 'theta', 'phi', 'g', 'phi g', 'z'],
        recompute=[False, True],
        series=['dot', 'gram'],
    )
)
def test_what_needs_no_gradient_gets_none(series, recompute, frozen):
    """The others get what they get without."""
    (plan, coefficients), tensors = arguments(series, 'GN', torch.float64)
    settings = replace(plan, recompute=recompute), coefficients
    d = torch.randn(3, C, 35, dtype=torch.float64)
    truth = results(chain, settings, tensors, d)
    for name in frozen.split():
        tensors[name].requires_grad_(False)
    folded(settings, tensors).backward(d)
    for name, tensor in tensors.items():
        if name in frozen.split():
            assert tensor.grad is None
        else:
            assert torch.allclose(tensor.grad, truth[name], 1e-6, 1e-9), name
