"""GroupNorm of the same groups leaves of the attention its sign.

See cgnl_mm/ops/README.md. One group's attention is one scalar a a sample, and
GN(a u) = a (u - mean u) / sqrt(a^2 var u + eps).
"""

import pytest
import torch

from cgnl_mm import CGNL3d

GROUPS = 8
DEFAULT = None
ONE_GROUP = dict(type='GN', num_groups=1)
BATCH = dict(type='BN')


def block_of(std, norm_cfg, **options):
    torch.manual_seed(0)
    return CGNL3d(
        256,
        groups=GROUPS,
        norm_cfg=norm_cfg,
        zero_init=False,
        init_std=std,
        **options,
    )


def features(batch=2):
    return torch.randn(batch, 256, 8, 14, 14).relu()


@torch.no_grad()
def distance_to_sign(block, x):
    """How far the output is from the one that knows only the sign of a."""
    theta, phi, g = (
        conv(x).reshape(len(x), GROUPS, -1)
        for conv in (block.theta, block.phi, block.g)
    )
    sign = (phi * g).sum(-1, keepdim=True).sign()
    y = (1e6 * sign * theta).reshape(len(x), -1, *x.shape[2:])  # eps is moot
    sign_only = x + block.norm(block.conv_out(y))
    return (block(x) - sign_only).abs().max().item()


def test_sign_alone_survives():
    x = features()
    y = block_of(0.1, DEFAULT)(x)
    assert distance_to_sign(block_of(0.1, DEFAULT), x) < 0.003
    assert y.abs().max() > 5


def test_magnitude_matters_at_initial_weights():
    """There eps outweighs a^2 var u."""
    assert distance_to_sign(block_of(0.01, DEFAULT), features()) > 1


@pytest.mark.parametrize('norm_cfg', [ONE_GROUP, BATCH], ids=str)
def test_other_norms_keep_the_magnitude(norm_cfg):
    """Of groups beside each other, and of samples beside each other."""
    assert distance_to_sign(block_of(0.1, norm_cfg), features()) > 1


def test_batch_norm_needs_a_batch():
    """One sample a GPU, as in detection: its magnitude cancels as well."""
    assert distance_to_sign(block_of(0.1, BATCH), features(1)) < 0.003


@torch.no_grad()
def change_by_doubling(block, x):
    """Largest change of the output when phi, and so a, doubles."""
    y = block(x)
    block.phi.weight *= 2
    return (block(x) - y).abs().max().item() / (y - x).abs().max().item()


def test_no_norm_is_linear_in_the_attention():
    block = block_of(0.1, False)
    assert change_by_doubling(block, features()) == pytest.approx(1, rel=1e-3)


def test_several_orders_keep_their_ratio():
    """<phi, g> doubles, <phi^2, g> grows fourfold."""
    x = features()
    assert change_by_doubling(block_of(0.1, DEFAULT), x) < 1e-3
    block = block_of(0.1, DEFAULT, mode='learnable')
    with torch.no_grad():
        block.coefficients[2] = 1
    assert change_by_doubling(block, x) > 0.05


def gradient_share(std, norm_cfg):
    """Relative gradient of phi over that of theta."""
    block = block_of(std, norm_cfg)
    x = features()
    block(x).backward(torch.randn_like(x))

    def relative(weight):
        return weight.grad.norm() / weight.norm()

    share = relative(block.phi.weight) / relative(block.theta.weight)
    return share.item()


def test_phi_stops_learning_when_weights_grow():
    """Measured: 4.6 at std 0.01, 0.0015 at 0.1."""
    assert gradient_share(0.01, DEFAULT) > 1
    assert gradient_share(0.1, DEFAULT) < 0.01


@pytest.mark.parametrize('norm_cfg', [ONE_GROUP, BATCH, False], ids=str)
def test_phi_goes_on_learning_under_other_norms(norm_cfg):
    """Measured: 1.2 and 1.2; 11 and 20; 1.2 and 1.2."""
    small, large = (gradient_share(std, norm_cfg) for std in (0.01, 0.1))
    assert small > 0.5
    assert large > 0.5
