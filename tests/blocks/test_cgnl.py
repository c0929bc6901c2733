"""What the block computes: identity, ranks, modes, coefficients, init."""

import math

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.ops import generalized_nonlocal, taylor_coefficients

BLOCKS = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}
SIZES = {1: (7,), 2: (5, 3), 3: (3, 4, 5)}
MODES = ('dot_product', 'embedded_gaussian', 'gaussian_rbf', 'learnable')
NORMS = {
    'default': None,
    'GN1': dict(type='GN', num_groups=1),
    'BN': dict(type='BN'),
    'SyncBN': dict(type='SyncBN'),
    'IN': dict(type='IN', affine=True),
    'none': False,
}


@pytest.mark.pairs(
    dict(
        rank=BLOCKS, mode=[*MODES, 'none'], norm=NORMS, training=[True, False]
    )
)
def test_identity_at_start(rank, mode, norm, training):
    options = dict(groups=4, mode=mode, norm_cfg=NORMS[norm])
    x = torch.randn(2, 16, *SIZES[rank])
    block = BLOCKS[rank](16, **options).train(training)
    assert torch.equal(block(x), x)
    # so that the test cannot pass on a block that does nothing
    other = BLOCKS[rank](16, zero_init=False, **options).train(training)
    assert not torch.equal(other(x), x)


def test_first_step_leaves_the_identity():
    """Zero start is not a dead start: the norm weight gets gradient."""
    block = CGNL2d(16, groups=4)
    x = torch.randn(2, 16, 5, 5)
    block(x).square().sum().backward()
    assert block.norm.weight.grad.abs().min() > 0


def trained(cls=CGNL2d, channels=16, seed=1, **options):
    """A block as after training: no weight at its initial value."""
    block = cls(channels, **{'groups': 4, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(
                0.3 * torch.randn(parameter.shape, generator=generator)
            )
    return block


def test_residual_control_is_the_block_without_attention():
    """norm(W_z theta) + x: all weights but phi's and g's, none of those."""
    block, control = trained(), trained(mode='none')
    loaded = control.load_state_dict(block.state_dict(), strict=False)
    assert not loaded.missing_keys
    assert set(loaded.unexpected_keys) == {'phi.weight', 'g.weight'}
    x = torch.randn(2, 16, 3, 5)
    z = block.conv_out(block.theta(x))
    assert torch.equal(control(x), x + block.norm(z))
    assert not torch.allclose(control(x), block(x))


@pytest.mark.parametrize('use_scale', [False, True])
@pytest.mark.parametrize('mode', MODES)
def test_equals_equation_13(mode, use_scale):
    """norm(W_z Y) + X, with Y from the literal affinity."""
    options = dict(mode=mode, order=2, gamma=0.1, use_scale=use_scale)
    block = trained(CGNL3d, **options).double()
    x = torch.randn(2, 16, 2, 3, 5, dtype=torch.float64)
    if mode == 'learnable':
        series = block.coefficients
    else:
        series = taylor_coefficients(mode, 2, 0.1)

    def project(conv, x):  # a 1x1 convolution is a matrix
        return torch.einsum('oc,bc...->bo...', conv.weight.flatten(1), x)

    y = generalized_nonlocal(
        *(project(conv, x) for conv in (block.theta, block.phi, block.g)),
        series,
        groups=4,
        scale=1 / math.sqrt(8 / 4 * 30) if use_scale else 1.0,
    )
    w_z = torch.block_diag(*block.conv_out.weight.flatten(1).chunk(4))
    u = torch.einsum('oc,bcn->bon', w_z, y.flatten(2)).reshape(2, 4, -1)
    variance = u.var(-1, keepdim=True, unbiased=False)
    u = (u - u.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()
    weight, bias = block.norm.weight, block.norm.bias
    u = u.reshape(2, 16, -1) * weight[:, None] + bias[:, None]
    torch.testing.assert_close(block(x), x + u.view_as(x))


@pytest.mark.parametrize('mode', MODES)
def test_ranks_agree(mode):
    """3D with T = 1, 2D, and 1D on flattened positions are one function."""
    blocks = {rank: trained(cls, mode=mode) for rank, cls in BLOCKS.items()}
    x = torch.randn(2, 16, 4, 5)
    y = blocks[2](x)
    flat = blocks[1](x.flatten(2)).view_as(x)
    torch.testing.assert_close(flat, y, rtol=1e-5, atol=1e-5)
    video = blocks[3](x.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(video, y, rtol=1e-5, atol=1e-5)


def test_attends_over_time():
    """A change in the last frame reaches the first."""
    block = trained(CGNL3d)
    x = torch.randn(1, 16, 4, 3, 3)
    other = x.clone()
    other[:, :, -1] += 1
    assert (block(other)[:, :, 0] != block(x)[:, :, 0]).any()


@pytest.mark.parametrize('mode', ['embedded_gaussian', 'gaussian_rbf'])
def test_order_and_gamma_matter(mode):
    x = torch.randn(2, 16, 3, 3)
    y = trained(mode=mode, order=3, gamma=0.1)(x)
    assert not torch.allclose(trained(mode=mode, order=2, gamma=0.1)(x), y)
    other = trained(mode=mode, order=3, gamma=0.2)(x)
    assert torch.equal(other, y) == (mode == 'embedded_gaussian')


def test_learnable_starts_as_dot_product():
    learnable = CGNL2d(16, groups=4, mode='learnable', zero_init=False)
    dot = CGNL2d(16, groups=4, zero_init=False)
    state = learnable.state_dict()
    assert state.pop('coefficients').tolist() == [0, 1, 0, 0]
    dot.load_state_dict(state)
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(learnable(x), dot(x))


def test_learnable_coefficients_learn():
    """Every power has gradient, and a step down it lowers the loss."""
    block = trained(mode='learnable', order=3)
    x, target = torch.randn(2, 2, 16, 5, 5)

    def loss():
        return (block(x) - target).square().mean()

    before = loss()
    before.backward()
    gradient = block.coefficients.grad
    assert gradient.abs().min() > 0
    with torch.no_grad():
        block.coefficients -= 1e-3 * gradient / gradient.norm()
    assert loss() < before


def test_seeds_decide_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return CGNL2d(64).theta.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def assert_at_init(block, std=0.01):
    for conv in (block.theta, block.phi, block.g, block.conv_out):
        assert conv.weight.std().item() == pytest.approx(std, rel=0.1)
        assert abs(conv.weight.mean().item()) < 0.1 * std
    assert not block.norm.weight.any()
    assert not block.norm.bias.any()
    if block.mode == 'learnable':
        assert block.coefficients.tolist() == [0, 1, 0, 0]


def test_author_init():
    assert_at_init(CGNL2d(128, mode='learnable'))
    assert_at_init(CGNL2d(128, init_std=0.05), std=0.05)


def test_init_weights_restores_init():
    """Hosts initialise every convolution and norm that they find."""
    block = CGNL3d(128, mode='learnable')
    for module in block.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
    with torch.no_grad():
        block.coefficients.fill_(3)
    block.init_weights()
    assert_at_init(block)


def test_init_weights_restores_no_norm():
    block = CGNL2d(16, groups=4, norm_cfg=False)
    nn.init.ones_(block.conv_out.weight)
    block.init_weights()
    assert not block.conv_out.weight.any()


def test_init_cfg_comes_last():
    block = CGNL2d(
        128, init_cfg=dict(type='Constant', layer='GroupNorm', val=0.5)
    )
    block.init_weights()
    assert (block.norm.weight == 0.5).all()
    assert block.theta.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_init_weights_runs_once():
    """As every BaseModule: trained weights survive a second call."""
    block = CGNL2d(16, groups=4)
    block.init_weights()
    nn.init.ones_(block.norm.weight)
    block.init_weights()
    assert block.norm.weight.all()


@pytest.mark.parametrize(
    ('block', 'count'),
    [
        # theta, phi, g, W_z / groups, norm weight and bias
        (dict(type='CGNL2d'), 3 * 512 * 1024 + 512 * 1024 // 8 + 2048),
        (dict(type='CGNL2d', groups=1), 4 * 512 * 1024 + 2048),
        (dict(type='CGNL3d', mode='learnable'), 1_640_448 + 4),
        (dict(type='CGNL2d', norm_cfg=False), 1_640_448 - 2048),
    ],
)
def test_number_of_parameters(block, count):
    built = MODELS.build(dict(block, in_channels=1024))
    assert sum(p.numel() for p in built.parameters()) == count
    if block == dict(type='CGNL2d'):
        # C = 1024, 8 groups; mmcv's non-local block has 2.099M and biases
        assert round(count / 1e6, 3) == 1.640
        baseline = MODELS.build(dict(type='NonLocal2d', in_channels=1024))
        size = sum(p.numel() for p in baseline.parameters() if p.dim() > 1)
        assert count < size == 4 * 512 * 1024


def test_names_of_parameters():
    block = CGNL3d(16, groups=4, mode='learnable', norm_cfg=dict(type='BN'))
    assert {k: tuple(v.shape) for k, v in block.state_dict().items()} == {
        'coefficients': (4,),
        'theta.weight': (8, 16, 1, 1, 1),
        'phi.weight': (8, 16, 1, 1, 1),
        'g.weight': (8, 16, 1, 1, 1),
        'conv_out.weight': (16, 2, 1, 1, 1),
        'norm.weight': (16,),
        'norm.bias': (16,),
        'norm.running_mean': (16,),
        'norm.running_var': (16,),
        'norm.num_batches_tracked': (),
    }


def test_repr_shows_the_settings():
    text = repr(CGNL2d(16, groups=4, mode='gaussian_rbf', order=2, gamma=0.5))
    assert "mode='gaussian_rbf', groups=4, order=2, gamma=0.5" in text
