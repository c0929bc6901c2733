"""The norm as an affine map: its gradients."""

import pytest
import torch

from cgnl_mm.ops.fused import torch_steps as steps
from cgnl_mm.ops.fused.norm import AffineNorm
from cgnl_mm.ops.fused.plan import Norm, Plan, Weights

B, G, K, C, S = 2, 3, 4, 5, 7  # C per group
NORMS = {
    'GN': Norm(G),
    'GN of 15': Norm(C * G),
    'GN of one': Norm(1),
    'GN of five': Norm(5),
    'BN': Norm(C * G, over_batch=True),
    'given': Norm(
        C * G, mean=torch.rand(C * G).double(), var=torch.rand(C * G).double()
    ),
}


@pytest.mark.parametrize('has_factor', [True, False])
@pytest.mark.parametrize('norm', NORMS)
def test_backward(norm, has_factor):
    """Compare ``backward`` with autograd through the matrix and the shift."""
    factor, y, z, norm_weight, norm_bias, d_matrix, d_shift = (
        torch.randn(shape, dtype=torch.float64)
        for shape in (
            (B, G), (B * G, K, S), (C * G, K), (C * G,), (C * G,),
            (B * G, C, K), (B, C * G),
        )
    )  # fmt: skip
    leaves = [factor, *steps.statistics(y), z, norm_weight, norm_bias]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    if not has_factor:
        leaves[0] = None
    plan, weights = (
        Plan(G, NORMS[norm]),
        Weights(None, None, None, *leaves[3:]),
    )
    affine = AffineNorm(plan, weights, *leaves[:3])
    expected = torch.autograd.grad(
        (affine.matrix, affine.shift),
        [leaf for leaf in leaves if leaf is not None],
        (d_matrix, d_shift),
        materialize_grads=True,
    )
    with torch.no_grad():
        gradients = list(affine.backward(d_matrix, d_shift))
    if not has_factor:
        assert gradients.pop(0) is None
    assert len(gradients) == len(expected)
    for value, truth in zip(gradients, expected):
        torch.testing.assert_close(value, truth)
