"""GroupNorm of the same groups leaves the sign of the attention alone.

See cgnl_mm/ops/README.md. The attention of a group is one scalar a for each
sample, and GN(a u) = a (u - mean u) / sqrt(a^2 var u + eps).
"""

import pytest
import torch
from samples import NORMS

from cgnl_mm import CGNL3d

GROUPS = 8


def make(std, norm, batch=2):
    """Make a block and an input; the numbers of the README are of seed 0."""
    torch.manual_seed(0)
    block = CGNL3d(
        256, groups=GROUPS, norm_cfg=NORMS[norm], norm_weight=1.0,
        init_std=std,
    )  # fmt: skip
    return block, torch.randn(batch, 256, 8, 14, 14).relu()


@pytest.mark.parametrize(
    ('std', 'norm', 'batch', 'is_sign_alone'),
    [
        (0.1, 'default', 2, True),
        (0.01, 'default', 2, False),  # eps outweighs a^2 var u
        (0.1, 'GN1', 2, False),
        (0.1, 'BN', 2, False),
        (0.1, 'BN', 1, True),  # one sample a GPU, as in detection
    ],
)
@torch.no_grad()
def test_what_survives_of_the_attention(std, norm, batch, is_sign_alone):
    """Compare with the output that knows only the sign of a."""
    block, x = make(std, norm, batch)
    theta, phi, g = (
        conv(x).reshape(len(x), GROUPS, -1)
        for conv in (block.theta, block.phi, block.g)
    )
    sign = (phi * g).sum(-1, keepdim=True).sign()
    y = (1e6 * sign * theta).reshape(len(x), -1, *x.shape[2:])  # eps is moot
    sign_only = x + block.norm(block.conv_out(y))
    distance = (block(x) - sign_only).abs().max()
    assert distance < 0.003 if is_sign_alone else distance > 1
    assert sign_only.abs().max() > 5


@pytest.mark.parametrize(
    ('norm', 'learns'),
    [('default', False), ('GN1', True), ('BN', True), ('none', True)],
)
def test_whether_phi_learns_when_weights_have_grown(norm, learns):
    """Compare the relative gradient of phi with that of theta.

    Measured at std 0.01 and 0.1: 4.6 and 0.0015; 1.2 and 1.2; 11 and 20; 1.2
    and 1.2.
    """
    shares = []
    for std in (0.01, 0.1):
        block, x = make(std, norm)
        block(x).backward(torch.randn_like(x))
        phi, theta = (
            (layer.weight.grad.norm() / layer.weight.norm()).item()
            for layer in (block.phi, block.theta)
        )
        shares.append(phi / theta)
    assert shares[0] > (0.5 if learns else 1)
    assert shares[1] > 0.5 if learns else shares[1] < 0.01
