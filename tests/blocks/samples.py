"""Blocks and norms that the tests of this folder share."""

import torch

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.blocks.settings import MODES
from cgnl_mm.ops.accuracy import output_and_gradients

BLOCKS = {1: CGNL1d, 2: CGNL2d, 3: CGNL3d}
SIZES = {1: (35,), 2: (5, 7), 3: (3, 4, 5)}
ATTENTIONS = tuple(mode for mode in MODES if mode != 'none')
BN = dict(type='BN')
NORMS = {
    'default': None,
    'GN1': dict(type='GN', num_groups=1),
    'BN': BN,
    'cumulative BN': dict(type='BN', momentum=None),
    'SyncBN': dict(type='SyncBN'),
    'IN': dict(type='IN', affine=True),
    'none': False,
}


def trained(rank=2, channels=16, std=0.3, **options):
    """Make a block as after training: no number is at its first value."""
    block = BLOCKS[rank](channels, **{'groups': 4, **options})
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=std)
        for name, buffer in block.named_buffers():
            if 'running' in name:
                buffer.uniform_(0.5, 1.5)
    return block


def results(block, x, d):
    """Return the output of a block and the gradients of x and its weights."""
    x = x.detach().clone().requires_grad_()
    leaves = dict(block.named_parameters(), x=x)
    return output_and_gradients(block(x), d, leaves)
