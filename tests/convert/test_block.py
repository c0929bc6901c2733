"""Names of the author's code; values are checked in blocks/test_golden.py."""

import pytest
import torch
from mmcv.cnn import NonLocal2d

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.convert import convert_block_state_dict


def author(norm='gn', channels=16, inner=8, groups=4):
    state = {
        f'{name}.weight': torch.randn(inner, channels, 1, 1) for name in 'tpg'
    }
    inputs = inner // groups if norm == 'gn' else inner
    state['z.weight'] = torch.randn(channels, inputs, 1, 1)
    state[f'{norm}.weight'] = torch.randn(channels)
    state[f'{norm}.bias'] = torch.randn(channels)
    return state


@pytest.mark.parametrize(
    ('rank', 'cls'), [(1, CGNL1d), (2, CGNL2d), (3, CGNL3d)]
)
def test_cgnl_loads_strictly(rank, cls):
    state = author()
    shapes = {key: value.shape for key, value in state.items()}
    block = cls(16, groups=4)
    block.load_state_dict(convert_block_state_dict(state, rank), strict=True)
    assert shapes == {key: value.shape for key, value in state.items()}
    for theirs, ours in dict(
        t=block.theta, p=block.phi, g=block.g, z=block.conv_out, gn=block.norm
    ).items():
        expected = state[f'{theirs}.weight']
        assert torch.equal(ours.weight.flatten(), expected.flatten()), theirs
    assert torch.equal(block.norm.bias, state['gn.bias'])


def test_non_local_gets_zero_biases():
    state = author('bn')
    running = {'bn.running_mean': torch.randn(16)}
    running['bn.running_var'] = torch.rand(16)
    running['bn.num_batches_tracked'] = torch.tensor(7)
    block = NonLocal2d(16, reduction=2, norm_cfg=dict(type='BN'))
    block.load_state_dict(
        convert_block_state_dict({**state, **running}), strict=True
    )
    assert torch.equal(block.g.conv.weight, state['g.weight'])
    bn = block.conv_out.bn
    assert torch.equal(bn.running_var, running['bn.running_var'])
    for child in (block.theta, block.phi, block.g):
        assert not child.conv.bias.any()


def test_unknown_names_are_listed():
    state = author()
    state['module.x.weight'] = state.pop('t.weight')
    with pytest.raises(KeyError, match=r"missing \['t'\].*\['module'\]"):
        convert_block_state_dict(state)
