"""Mixed precision in the three hosts: what float32 computes, to rounding."""

from pathlib import Path

import pytest
import torch

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / 'configs'
# one epoch of four iterations
SMALL = {
    'r18_cgnl_digits': ['train_dataloader.batch_size=330'],
    'i3d_r18_cgnl_movingdigits': [
        'train_dataloader.batch_size=4',
        *(
            f'{split}_dataloader.dataset.{size}'
            for split in ('train', 'val', 'test')
            for size in ('num_train=16', 'num_test=4')
        ),
    ],
    'mask_rcnn_r18_fpn_cgnl_digitscenes': [
        'train_dataloader.batch_size=4',
        *(
            f'{split}_dataloader.dataset.{size}'
            for split in ('train', 'val', 'test')
            for size in ('num_train=16', 'num_test=4', 'size=64')
        ),
    ],
}
TYPES = ('float32', 'bfloat16', 'float16')
ITERATIONS = 4


@pytest.fixture(scope='module', params=SMALL)
def trained(request, tmp_path_factory, run_tool):
    """{type: what PrecisionHook wrote and the last weights}."""
    folder = tmp_path_factory.mktemp('amp')
    found = {}
    for name in TYPES:
        options = [
            *SMALL[request.param],
            'custom_imports.imports=[cgnl_mm,cpu_amp]',
            'custom_hooks=[dict(type="PrecisionHook")]',
            'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            'train_cfg.max_epochs=1',
            'default_hooks.checkpoint.interval=1',
            'param_scheduler=None',
        ]  # fmt: skip
        if name != 'float32':
            options += [
                'optim_wrapper.type=CpuAmpOptimWrapper',
                f'optim_wrapper.dtype={name}',
            ]
        run_tool(
            'train.py',
            CONFIGS / f'{request.param}.py',
            *('--work-dir', name, '--seed', '0', '--cfg-options', *options),
            cwd=folder,
            extra=dict(PYTHONPATH=str(HERE)),
        )
        found[name] = torch.load(folder / name / 'amp.pt')
        found[name]['saved'] = torch.load(
            (folder / name / 'last_checkpoint').read_text()
        )
    return found


@pytest.mark.parametrize('name, tolerance', [('bfloat16', 0.05),
                                             ('float16', 0.01)])  # fmt: skip
def test_trains_as_float32_does(trained, name, tolerance):
    run, full = trained[name], trained['float32']
    assert run['types'] == {getattr(torch, name)}
    assert full['types'] == {torch.float32}
    assert len(run['losses']) == ITERATIONS
    # the first, since random proposals part from each other later
    for key, value in full['losses'][0].items():
        assert run['losses'][0][key] == pytest.approx(
            value, rel=tolerance, abs=tolerance
        ), key
    for key, weight in run['saved']['state_dict'].items():
        assert weight.dtype == full['saved']['state_dict'][key].dtype, key
        assert weight.isfinite().all(), key


def test_scale_of_the_gradients_is_saved(trained):
    scaler = trained['float16']['saved']['optimizer']['loss_scaler']
    # 65536 until an overflow, which halves it
    assert 0 < scaler['scale'] <= 65536
    steps = scaler['_growth_tracker']
    assert 0 < steps <= ITERATIONS


@pytest.mark.parametrize('name', TYPES)
def test_gradients_reach_the_block(trained, name):
    """The momentum of each of its weights, or Adam's, is not zero."""
    saved = trained[name]['saved']
    state = saved['optimizer']['state']
    blocks = [k for k in saved['state_dict'] if k.endswith('conv_out.weight')]
    assert blocks
    assert all(
        value.isfinite().all()
        for entry in state.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor)
    )
    for key in blocks:
        shape = saved['state_dict'][key].shape
        assert any(
            value.shape == shape and value.abs().max() > 0
            for entry in state.values()
            for value in entry.values()
            if isinstance(value, torch.Tensor)
        )
