"""Mixed precision in the three hosts: what float32 computes, to rounding."""

import importlib
from pathlib import Path

import pytest
import torch
from runs import SCENES, fault

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

pytestmark = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'),
    reason='torch < 2.3 has no gradient scaler for a CPU',
)
CONFIGS = Path(__file__).parents[2] / 'configs'
TYPES = ('float32', 'bfloat16', 'float16')
ITERATIONS = 4
# one epoch of four iterations; convolutions of float16 are slow on a CPU
LINES = """
_base_ = {base!r}
custom_imports = dict(imports=['cgnl_mm', 'cpu_amp'])
custom_hooks = [dict(type='PrecisionHook')]
data = dict({data})
train_dataloader = dict(
    batch_size={batch}, num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = test_dataloader = dict(dataset=data)
train_cfg = dict(max_epochs=1)
default_hooks = dict(checkpoint=dict(interval=1))
param_scheduler = None
# blocks that are not the identity at the start
plugins = _base_.model.backbone.plugins
plugins[0].cfg.norm_weight = 1.0
model = dict(backbone=dict(plugins=plugins, base_channels=8))
"""
# a scale at which no gradient of the first iterations overflows
AMP = """
optim_wrapper = dict(
    type='CpuAmpOptimWrapper', dtype={name!r},
    loss_scale=dict(init_scale=256.))
"""
# The norms are frozen: the statistics of a small batch would take most of the
# gradient from the layers before a norm.
IMAGES = """
model['backbone'].update(
    stem_channels=8, norm_eval=True, zero_init_residual=False)
model['head'] = dict(in_channels=64)
"""
CLIPS = """
model['cls_head'] = dict(in_channels=64)
"""
# The boxes of the data stand in for the proposals, which differ by precision.
NO_PROPOSALS = """
model['train_cfg'] = dict(rpn_proposal=dict(max_per_img=0))
"""
SMALL = 'num_train=16, num_test=4'
CASES = {
    'r18_cgnl_digits': ('indices=128', 32, IMAGES),
    'i3d_r18_cgnl_movingdigits': (f'{SMALL}, size=32', 4, CLIPS),
    'mask_rcnn_r18_fpn_cgnl_digitscenes': (
        f'{SMALL}, size=64',
        4,
        SCENES + NO_PROPOSALS,
    ),
}


def write_config(path, config, name, extra=''):
    data, batch, lines = CASES[config]
    base = str(CONFIGS / f'{config}.py')
    text = LINES.format(base=base, data=data, batch=batch) + lines
    if name != 'float32':
        text += AMP.format(name=name)
    path.write_text(text + extra)


@pytest.fixture(params=CASES)
def trained(request, once, said_by):
    """Train a demo with each type.

    Returns {type: what PrecisionHook wrote and the last checkpoint}.
    """
    config = request.param
    operators = importlib.import_module('mmcv._ext').__file__
    if 'mask_rcnn' in config and not operators.endswith('.py'):
        pytest.skip('a compiled mmcv takes no half precision on a CPU')

    def make(folder):
        for name in TYPES:
            write_config(folder / f'{name}.py', config, name)
            options = (f'{name}.py', '--work-dir', name, '--seed', '0')
            said_by('train.py', *options, cwd=folder)

    runs = once(f'amp_{config}', make)
    return {
        name: dict(
            torch.load(runs / name / 'amp.pt'),
            saved=torch.load(runs / name / 'epoch_1.pth'),
        )
        for name in TYPES
    }


@pytest.mark.parametrize(
    'name, tolerance', [('bfloat16', 0.05), ('float16', 0.01)]
)
def test_trains_as_float32_does(trained, name, tolerance):
    run, full = trained[name], trained['float32']
    assert run['types'] == {getattr(torch, name)}
    assert full['types'] == {torch.float32}
    assert len(run['losses']) == len(full['losses']) == ITERATIONS
    for step, losses in enumerate(full['losses']):
        for key, value in losses.items():
            if 'loss' in key:  # not accuracies of an untrained head
                assert run['losses'][step][key] == pytest.approx(
                    value, rel=tolerance, abs=tolerance
                ), (step, key)
    for key, weight in run['saved']['state_dict'].items():
        assert weight.dtype == full['saved']['state_dict'][key].dtype, key
        assert weight.isfinite().all(), key


def test_scale_of_the_gradients_is_saved(trained):
    scaler = trained['float16']['saved']['optimizer']['loss_scaler']
    # as it was set, until an overflow, which halves it
    assert 0 < scaler['scale'] <= 256
    assert 0 < scaler['_growth_tracker'] <= ITERATIONS


# Rounding moves some activations over the edge of a ReLU: up to 0.15 and 0.06
# here, where a gradient that has nothing to do with the other gives 1.4.
@pytest.mark.parametrize('name, tolerance', [('bfloat16', 0.3),
                                             ('float16', 0.2)])  # fmt: skip
def test_first_gradients_are_those_of_float32(trained, name, tolerance):
    """Of every weight of the block, by direction: AMP scales them."""
    run, full = trained[name]['grads'], trained['float32']['grads']
    parts = {key.split('.cgnl_0.')[1].split('.')[0] for key in full}
    assert parts == {'theta', 'phi', 'g', 'conv_out', 'norm'}
    assert run.keys() == full.keys()
    for key, exact in full.items():
        grad, exact = run[key].double(), exact.double()
        # theta's and phi's would be zero in a block that is the identity
        assert exact.norm() > 0 and grad.isfinite().all(), key
        difference = grad / grad.norm() - exact / exact.norm()
        assert difference.norm() < tolerance, key


OVERFLOW = "custom_hooks = [dict(type='NumericsHook')]\n" + fault(
    'large', 'iteration', at=2
)


@pytest.mark.parametrize('name', ['float32', 'float16'])
def test_overflow_is_named(tmp_path, said_by, name):
    """One of float16; float32 has room for the same values."""
    write_config(tmp_path / 'run.py', 'r18_cgnl_digits', name, OVERFLOW)
    status = 2 if name == 'float16' else 0
    options = ('run.py', '--no-validate', '--seed', '0')
    output = said_by('train.py', *options, cwd=tmp_path, status=status)
    where = 'input finite, output not, in channel group 3 of 0 to 7'
    if name == 'float32':
        assert 'not finite' not in output and where not in output
        return
    lines = [x for x in output.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1
    assert 'iteration 2, rank 0: backbone.layer' in lines[0]
    assert f'.cgnl_0: {where}' in lines[0]
