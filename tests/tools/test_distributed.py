"""Several processes compute what one does: DDP, two nodes, FSDP."""

import json
import shutil
from collections import Counter

import pytest
import torch
from runs import (
    EXACT,
    FSDP,
    finish,
    free_port,
    records,
    scalars,
    write_config,
)

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints
from cgnl_mm.training.fsdp import obstacle_on_cpu


@pytest.fixture
def folder(once):
    """Where all of this file runs: the clips are written once."""
    return once('distributed')


@pytest.fixture
def by_number(once, folder, said_by):
    """The same 8 clips in 1, 2 and 4 processes: {number: records}."""

    def make(_):
        for number in (1, 2, 4):
            name, batch = f'of_{number}', 8 // number
            write_config(folder, name, batch=batch, backbone=EXACT)
            tool = ('train.py', f'{name}.py')
            if number > 1:
                tool = ('dist_train.sh', f'{name}.py', number)
            said_by(*tool, '--no-validate', cwd=folder)

    once('by_number', make)
    return {n: records(folder / f'work_dirs/of_{n}') for n in (1, 2, 4)}


@pytest.mark.parametrize('number', [2, 4])
def test_gradients_of_several_processes_equal_those_of_one(by_number, number):
    (one,), several = by_number[1], by_number[number]
    assert [record['world_size'] for record in several] == [number] * number
    expected = one['gradients']
    blocks = [name for name in expected if 'cgnl' in name]
    # theta, phi, g, W_z, weight and bias of the norm; the coefficients
    assert len(blocks) == 2 * 6 + 1
    for record in several:
        assert record['gradients'].keys() == expected.keys()
        for name, gradient in record['gradients'].items():
            error = (gradient - expected[name]).abs().max()
            size = expected[name].abs().max()
            assert size > 0, name
            # rounding: 2e-6 at most was measured, in the first convolution
            assert error <= 1e-5 * size, name
        for name, weight in record['weights'].items():
            assert torch.equal(weight, several[0]['weights'][name]), name


def test_two_nodes_train_together(by_number, folder, start_tool):
    """Two nodes of one process each, here on one machine."""
    common = dict(cwd=folder, NNODES='2', PORT=str(free_port()))
    options = ('of_2.py', 1, '--no-validate', '--work-dir', 'nodes')
    nodes = [
        start_tool('dist_train.sh', *options, NODE_RANK=str(rank), **common)
        for rank in range(2)
    ]
    for node in nodes:
        assert 'MASTER_ADDR is not set' in finish(node)
    first, second = records(folder / 'nodes')
    assert first['world_size'] == second['world_size'] == 2
    together = by_number[2][0]
    assert first['losses'][0] != second['losses'][0]  # each its own clips
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name
        assert torch.equal(weight, together['weights'][name]), name


@pytest.fixture
def sharded(once, folder, said_by):
    """Folders of the same two epochs with DDP and with FSDP."""
    if obstacle_on_cpu():
        pytest.skip(f'FSDP on a CPU: {obstacle_on_cpu()}')

    def make(_):
        options = dict(
            epochs=2,
            # below the norms that occur
            extra="custom_hooks.append(dict(type='CGNLStatisticsHook'))\n"
            'optim_wrapper = dict(clip_grad=dict(max_norm=0.5))\n',
        )
        write_config(folder, 'ddp', **options)
        write_config(folder, 'fsdp', base=FSDP, **options)
        for name in ('ddp', 'fsdp'):
            said_by('dist_train.sh', f'{name}.py', 2, cwd=folder)

    once('sharded', make)
    return folder / 'work_dirs/ddp', folder / 'work_dirs/fsdp'


def test_fsdp_shards_units_and_blocks(sharded):
    for record in records(sharded[1]):
        assert record['world_size'] == 2
        assert Counter(record['sharded']) == {
            'Recognizer3D': 1,  # the root holds what is left
            'BasicBlock3d': 8,
            'CGNL3d': 1,
        }


def test_fsdp_trains_as_ddp_does(sharded):
    """Losses, clipped gradients, whole checkpoints."""
    ddp, fsdp = sharded
    for expected, record in zip(records(ddp), records(fsdp)):
        assert record['losses'] == pytest.approx(expected['losses'], rel=1e-5)
    norms = scalars(ddp, 'grad_norm')
    assert min(norms) > 0.5
    assert scalars(fsdp, 'grad_norm') == pytest.approx(norms, rel=1e-4)
    for epoch in (1, 2):
        expected = torch.load(ddp / f'epoch_{epoch}.pth')
        checkpoint = torch.load(fsdp / f'epoch_{epoch}.pth')
        assert checkpoint['meta']['epoch'] == epoch
        assert checkpoint['meta']['iter'] == expected['meta']['iter']
        torch.testing.assert_close(
            checkpoint['state_dict'], expected['state_dict']
        )


def test_statistics_of_a_sharded_block(sharded):
    name = 'cgnl/backbone.layer3.cgnl_0'
    for key in ('norm_weight', 'output_ratio', 'attention_mean'):
        expected, found = (scalars(run, f'{name}/{key}') for run in sharded)
        assert len(found) > 1 and found[-1] != 0
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert scalars(sharded[0], f'{name}/gradient_share_g')
    assert not scalars(sharded[1], f'{name}/gradient_share_g')


def test_fsdp_evaluates_its_checkpoint(sharded, folder, said_by):
    said_by(
        'dist_test.sh',
        *('fsdp.py', sharded[1] / 'epoch_2.pth', 2),
        *('--work-dir', 'evaluated'),
        cwd=folder,
    )
    (metrics,) = (folder / 'evaluated').glob('*/*.json')
    accuracy = json.loads(metrics.read_text())['acc/top5']
    assert accuracy == scalars(sharded[1], 'acc/top5')[-1]


def test_resumed_fsdp_equals_uninterrupted_fsdp(
    sharded, said_by, folder, tmp_path
):
    """As if the job had been killed after its first epoch."""
    shutil.copy(sharded[1] / 'epoch_1.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    options = ('fsdp.py', 2, '--resume', '--work-dir', tmp_path)
    said_by('dist_train.sh', *options, cwd=folder)
    whole = torch.load(sharded[1] / 'epoch_2.pth')
    resumed = torch.load(tmp_path / 'epoch_2.pth')
    assert resumed['meta']['iter'] == whole['meta']['iter']
    state, whole_state = (
        (checkpoint['state_dict'], checkpoint['optimizer']['state'])
        for checkpoint in (resumed, whole)
    )
    torch.testing.assert_close(state, whole_state, rtol=0, atol=0)


def test_config_of_fsdp_runs_in_one_process(folder, said_by):
    write_config(folder, 'fsdp_alone', base=FSDP)
    output = said_by('train.py', 'fsdp_alone.py', '--no-validate', cwd=folder)
    assert 'note: one process has nothing to shard' in output
    assert (folder / 'work_dirs/fsdp_alone/epoch_1.pth').is_file()
