"""What the block computes beside its definition, and its initial state."""

import pytest
import torch
from samples import BLOCKS, NORMS, SIZES, trained
from torch import nn

from cgnl_mm import CGNL2d, CGNL3d
from cgnl_mm.blocks.settings import MODES
from cgnl_mm.ops import taylor_coefficients


@pytest.mark.pairs(
    dict(
        rank=BLOCKS,
        mode=MODES,
        norm=NORMS,
        training=[True, False],
        dtype=[torch.float32, torch.float16, torch.bfloat16],
    )
)
def test_identity_at_start(rank, mode, norm, training, dtype):
    """The last layer is zero, but gets a gradient."""
    options = dict(groups=4, mode=mode, norm_cfg=NORMS[norm])
    x = torch.randn(2, 16, *SIZES[rank]).to(dtype)
    block = BLOCKS[rank](16, **options).train(training).to(dtype)
    y = block(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert (block.conv_out if norm == 'none' else block.norm).weight.grad.any()
    # The test cannot pass on a block that does nothing.
    other = BLOCKS[rank](16, norm_weight=1.0, **options).train(training)
    assert not torch.equal(other(x.float()), x.float())


def test_residual_control_is_the_block_without_attention():
    """norm(W_z theta) + x has all weights but those of phi and g."""
    block, control = trained(), trained(mode='none')
    loaded = control.load_state_dict(block.state_dict(), strict=False)
    assert not loaded.missing_keys
    assert set(loaded.unexpected_keys) == {'phi.weight', 'g.weight'}
    x = torch.randn(2, 16, 3, 5)
    z = block.conv_out(block.theta(x))
    assert torch.equal(control(x), x + block.norm(z))
    assert not torch.allclose(control(x), block(x))


@pytest.mark.parametrize('order', [0, 2])
@pytest.mark.parametrize('mode', ['embedded_gaussian', 'gaussian_rbf'])
def test_series_has_the_order_and_the_width(mode, order):
    block = CGNL2d(16, groups=4, mode=mode, order=order, gamma=0.1)
    expected = taylor_coefficients(mode, order, 0.1)
    assert block.coefficients == expected and len(expected) == order + 1


def assert_at_init(block, std=0.32 / 128**0.5):
    for conv in (block.theta, block.phi, block.g, block.conv_out):
        assert conv.weight.std().item() == pytest.approx(std, rel=0.1)
        assert abs(conv.weight.mean().item()) < 0.1 * std
    assert not block.norm.weight.any()
    assert not block.norm.bias.any()
    if block.mode == 'learnable':
        assert block.coefficients.tolist() == [0, 1, 0, 0]


def test_first_weights():
    assert_at_init(CGNL2d(128, mode='learnable'))
    assert_at_init(CGNL2d(128, init_std=0.05), std=0.05)
    first, second = CGNL2d(64).theta.weight, CGNL2d(64).theta.weight
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ('channels', 'groups', 'std'),
    [(64, 8, 0.04), (256, 1, 0.02), (1024, 32, 0.01)],
)
def test_first_std_falls_with_the_width(channels, groups, std):
    """It is the author's at 1,024 channels, whatever the groups."""
    torch.manual_seed(0)
    block = CGNL2d(channels, groups=groups)
    for conv in (block.theta, block.phi, block.g, block.conv_out):
        # Four standard errors of the deviation of so many numbers.
        error = 4 / (2 * conv.weight.numel()) ** 0.5
        assert conv.weight.std().item() == pytest.approx(std, rel=error)


@pytest.mark.parametrize('norm', ['default', 'BN', 'none'])
def test_init_weights_keeps_the_norms_first_weight(norm):
    block = trained(channels=64, norm_cfg=NORMS[norm], norm_weight=0.1)
    block.init_weights()
    if norm == 'none':
        std = block.conv_out.weight.std().item()
        assert std == pytest.approx(0.1 * 0.04, rel=0.2)
    else:
        assert (block.norm.weight == 0.1).all() and not block.norm.bias.any()


def test_init_weights_restores_init():
    """Hosts initialise every convolution and norm that they find."""
    block = trained(3, 128, mode='learnable', std=3)
    block.init_weights()
    assert_at_init(block)
    # As for every module of MMEngine, a second call changes nothing.
    nn.init.ones_(block.norm.weight)
    block.init_weights()
    assert block.norm.weight.all()
    bare = trained(norm_cfg=False)
    bare.init_weights()
    assert not bare.conv_out.weight.any()


def test_init_cfg_comes_last():
    cfg = dict(type='Constant', layer='GroupNorm', val=0.5)
    block = CGNL2d(128, init_cfg=cfg)
    block.init_weights()
    assert (block.norm.weight == 0.5).all()
    std = block.theta.weight.std().item()
    assert std == pytest.approx(0.32 / 128**0.5, rel=0.1)


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
    assert "='gaussian_rbf', groups=4, order=2, gamma=0.5, use_scale=F" in text
