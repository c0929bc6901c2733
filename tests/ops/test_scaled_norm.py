"""The norm of a scaled map against the chain of layers, in float64."""

import pytest
import torch
import torch.nn.functional as F

from cgnl_mm.ops.accuracy import output_and_gradients
from cgnl_mm.ops.fused.plan import Norm
from cgnl_mm.ops.narrow import sum_with_products
from cgnl_mm.ops.scaled_norm import scaled_norm

C, G = 12, 2
EPS = 0.1  # The chain would cancel above a small one.
MEAN, VAR = torch.linspace(-1, 1, C).double(), torch.arange(1, C + 1).double()
NORMS = {
    'GN': Norm(G, EPS),
    'GN1': Norm(1, EPS),
    'GN3': Norm(3, EPS),
    'GN4': Norm(4, EPS),
    'IN': Norm(C, EPS),
    'BN': Norm(C, EPS, over_batch=True),
    'BN eval': Norm(C, EPS, mean=MEAN, var=VAR),
}


def chain(norm, x, u, weight, bias, a, b=None, kappa=None):
    v = u * a.repeat_interleave(C // G, 1)[..., None]
    if b is not None:
        v = v + (b.repeat_interleave(C // G, 1) * kappa)[..., None]
    affine = dict(weight=weight, bias=bias, eps=EPS)
    if norm.mean is not None:
        y = F.batch_norm(v, norm.mean, norm.var, **affine)
    elif norm.over_batch:
        y = F.batch_norm(v, None, None, **affine, training=True)
    else:
        y = F.group_norm(v, norm.groups, **affine)
    return x + y


def ours(norm, x, u, weight, bias, a, b=None, kappa=None):
    return scaled_norm(norm, x, u, (weight, bias), a, b, kappa)[0]


def arguments(batch, has_constant):
    shapes = dict(x=(batch, C, 7), u=(batch, C, 7), weight=(C,), bias=(C,))
    shapes['a'] = batch, G
    if has_constant:
        shapes.update(b=(batch, G), kappa=(C,))
    tensors = {k: torch.randn(v).double() for k, v in shapes.items()}
    return {k: t.requires_grad_() for k, t in tensors.items()}


@pytest.mark.pairs(
    dict(norm=NORMS, batch=[1, 3], has_constant=[False, True], zero=['', 'a'])
)
def test_equals_the_chain(norm, batch, has_constant, zero):
    tensors = arguments(batch, has_constant)
    if zero:
        tensors[zero].data.zero_()
    d = torch.randn(batch, C, 7).double()
    found, truth = (
        output_and_gradients(function(NORMS[norm], **tensors), d, tensors)
        for function in (ours, chain)
    )
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


def test_factor_whose_cube_overflows():
    """A sum of 1e5 products of float16 maps may be that large."""
    tensors = {k: t.float() for k, t in arguments(1, False).items()}
    tensors['a'] = torch.full((1, G), 1e14, requires_grad=True)
    d = torch.randn(1, C, 7)
    found = output_and_gradients(ours(NORMS['GN'], **tensors), d, tensors)
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(
    'dtype, is_expanded',
    [
        (torch.bfloat16, False),
        (torch.bfloat16, True),  # PyTorch adds such a d in bfloat16.
        (torch.float16, False),
    ],
)
def test_sums_of_products_are_not_rounded(dtype, is_expanded):
    """A map of rounded products gave an error of 0.1."""
    d, u = torch.randn(2, 3, 2, 4, 3136).to(dtype)
    if is_expanded:
        d = d[..., :1].expand(u.shape)
    mean = torch.randn(3, 2, 1)
    found = sum_with_products(d, u, mean)
    wide = d.double()
    truth = wide * (u - mean[..., None].double()), wide
    torch.testing.assert_close(
        found, torch.stack(truth).sum(-1).float(), rtol=1e-5, atol=2e-3
    )


def test_variance_far_below_the_mean():
    """A sum of squares over a whole set lost digits: the error was 6e-2."""
    torch.manual_seed(0)
    u = (100 + torch.randn(1, 256, 6272)).half()
    affine, a = (torch.ones(256), torch.zeros(256)), torch.ones(1, 1)
    out, *_ = scaled_norm(Norm(1, 1e-5), torch.zeros_like(u), u, affine, a)
    exact = F.group_norm(u.double(), 1).std().item()
    assert out.double().std().item() == pytest.approx(exact, rel=2e-3)
