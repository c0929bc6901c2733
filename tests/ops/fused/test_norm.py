"""The norm as an affine map: its gradients."""

import pytest
import torch

from cgnl_mm.ops.fused import torch_steps as passes
from cgnl_mm.ops.fused.norm import Fold, FoldedNorm

B, G, K, C, S = 2, 3, 4, 5, 7  # C per group
NORMS = {
    'GN': FoldedNorm(G),
    'GN of 15': FoldedNorm(C * G),
    'GN of one': FoldedNorm(1),
    'GN of five': FoldedNorm(5),
    'BN': FoldedNorm(C * G, over_batch=True),
    'given': FoldedNorm(
        C * G, mean=torch.rand(C * G).double(), var=torch.rand(C * G).double()
    ),
}


@pytest.mark.parametrize('has_factor', [True, False])
@pytest.mark.parametrize('norm', NORMS)
def test_backward(norm, has_factor):
    """Compare ``backward`` with autograd through the matrix and the shift."""
    factor, y, z, weight, bias, d_matrix, d_shift = (
        torch.randn(shape, dtype=torch.float64)
        for shape in (
            (B, G), (B * G, K, S), (C * G, K), (C * G,), (C * G,),
            (B * G, C, K), (B, C * G),
        )
    )  # fmt: skip
    moments = passes.statistics(y)
    leaves = [factor, *moments, z, weight, bias]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    if not has_factor:
        leaves[0] = None
    fold = Fold(*leaves, NORMS[norm], G)
    wanted = [leaf for leaf in leaves if leaf is not None]
    expected = torch.autograd.grad(
        (fold.matrix, fold.shift), wanted, (d_matrix, d_shift),
        allow_unused=norm == 'given', materialize_grads=norm == 'given',
    )  # fmt: skip
    with torch.no_grad():
        again = Fold(*leaves, NORMS[norm], G)
        gradients = list(again.backward(d_matrix, d_shift))
    assert torch.equal(again.matrix, fold.matrix)
    assert torch.equal(again.shift, fold.shift)
    if not has_factor:
        assert gradients.pop(0) is None
    assert len(gradients) == len(expected)
    for value, truth in zip(gradients, expected):
        torch.testing.assert_close(value, truth)
