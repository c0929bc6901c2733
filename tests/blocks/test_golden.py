"""The author's code, computed once, against ours: forward and gradients."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import NonLocal2d
from samples import BLOCKS, BN, results

from cgnl_mm.convert import convert_block_state_dict

FILE = Path(__file__).parents[1] / 'data' / 'reference_blocks.npz'
DATA = {k: v for k, v in np.load(FILE).items()}
CASES = json.loads(DATA['__cases__'].tobytes())
# Deviation over the largest entry; reached: output 6e-7, theta and W_z 4e-6,
# input 2e-5, g of the RBF 6.7e-5, phi of the scaled dot product 2e-5. Where
# GroupNorm cancels the attention's magnitude, the reference's gradients of phi
# and g are themselves rounding (1e-6 beside 40): those are held to float32
# rounding of the whole block.
ROUNDING = 1e-6
# (output, gradients). One group's sum in the scaled case is near zero: the
# author's float32 and the Gram path are 4e-6 and 1.5e-4 from float64 there,
# each in its own direction; the other paths round as he did.
RELATIVE = {'gram': (1e-5, 4e-4)}


MODES = {'cgnl': 'dot_product', 'cgnlx': 'gaussian_rbf'}


def tensors(case, kind):
    start = f'{case}/{kind}/'
    return {
        k.removeprefix(start): torch.from_numpy(v)
        for k, v in DATA.items()
        if k.startswith(start)
    }


def build(block, rank, path, in_channels, inner_channels, use_scale, **more):
    options = dict(
        in_channels=in_channels,
        reduction=in_channels // inner_channels,
        use_scale=use_scale,
    )
    if block == 'nl':
        # The author's results have BatchNorm's fresh running statistics.
        return NonLocal2d(**options, norm_cfg=BN).eval()
    return BLOCKS[rank](
        **options,
        groups=more['groups'],
        mode=MODES[block],
        order=more['order'] or 3,
        backend=path,
    )


def paths(block):
    """Yield ranks and paths; the author's NonLocal is 2D alone."""
    if block == 'nl':
        return [(2, None)]
    grams = ('gram',) if block == 'cgnl' else ()
    return product(BLOCKS, ('reference', 'folded', *grams))


def largest(tensor):
    return tensor.abs().max().item()


@pytest.mark.parametrize(
    ('case', 'rank', 'path'),
    [
        (case, *combination)
        for case in sorted(CASES)
        for combination in paths(CASES[case]['block'])
    ],
)
def test_matches_author(case, rank, path):
    block = build(rank=rank, path=path, **CASES[case])
    params = convert_block_state_dict(tensors(case, 'param'), rank)
    missing, unexpected = block.load_state_dict(params, strict=False)
    assert not unexpected
    # the reference has no running statistics, and nothing else is absent
    assert all('running' in k or 'num_batches' in k for k in missing)

    x, y, grad_x, grad_y = (
        torch.from_numpy(DATA[f'{case}/{name}'])
        for name in ('x', 'y', 'grad_x', 'grad_y')
    )
    shape = {1: (-1,), 2: x.shape[2:], 3: (1, *x.shape[2:])}[rank]
    x = x.reshape(*x.shape[:2], *shape).requires_grad_()
    found = results(block, x, grad_y.view_as(x))
    truth = convert_block_state_dict(tensors(case, 'grad'), rank)
    # The author's NonLocal has biases in the norm alone.
    truth = {k: v for k, v in truth.items() if not k.endswith('.conv.bias')}
    assert len(truth) == 6

    expected = dict(truth, out=y, x=grad_x)
    size = {name: largest(value) for name, value in expected.items()}
    relative_y, relative = RELATIVE.get(path, (1e-6, 1e-4))
    rounding = ROUNDING * max(size[name] for name in truth)
    for name, value in expected.items():
        allowed = (relative_y if name == 'out' else relative) * size[name]
        if name in truth:
            allowed = max(allowed, rounding)
        assert largest(found[name].view_as(value) - value) < allowed, name
