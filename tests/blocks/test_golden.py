"""The author's code, computed once, against ours: forward and gradients."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import NonLocal2d

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
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


def tensors(case, kind):
    start = f'{case}/{kind}/'
    return {
        k[len(start) :]: torch.from_numpy(v)
        for k, v in DATA.items()
        if k.startswith(start)
    }


def build(settings, rank=2, backend='auto'):
    channels = settings['in_channels']
    reduction = channels // settings['inner_channels']
    if settings['block'] == 'nl':
        return NonLocal2d(
            channels,
            reduction=reduction,
            use_scale=settings['use_scale'],
            norm_cfg=dict(type='BN'),
        )
    mode = 'dot_product' if settings['block'] == 'cgnl' else 'gaussian_rbf'
    return (CGNL1d, CGNL2d, CGNL3d)[rank - 1](
        channels,
        groups=settings['groups'],
        reduction=reduction,
        mode=mode,
        order=settings['order'] or 3,
        use_scale=settings['use_scale'],
        backend=backend,
    )


def deviation(ours, reference):
    return (ours - reference).abs().max().item()


def largest(tensor):
    return tensor.abs().max().item()


def paths(case):
    if CASES[case]['block'] == 'cgnl':
        return 'reference', 'folded', 'gram'
    return 'reference', 'folded'


# his NonLocal is 2D alone
COMBINATIONS = [
    (case, rank, backend)
    for case in sorted(CASES)
    for rank, backend in (
        [(2, None)]
        if CASES[case]['block'] == 'nl'
        else product((1, 2, 3), paths(case))
    )
]


@pytest.mark.parametrize(('case', 'rank', 'backend'), COMBINATIONS)
def test_matches_author(case, rank, backend):
    settings = CASES[case]
    block = build(settings, rank, backend)
    params = convert_block_state_dict(tensors(case, 'param'), rank)
    missing, unexpected = block.load_state_dict(params, strict=False)
    assert not unexpected
    # the reference has no running statistics, and nothing else is absent
    assert all('running' in k or 'num_batches' in k for k in missing)

    if settings['block'] == 'nl':
        block.eval()  # computed with BatchNorm's fresh running statistics

    x = torch.from_numpy(DATA[f'{case}/x'])
    shape = {1: (-1,), 2: x.shape[2:], 3: (1, *x.shape[2:])}[rank]
    x = x.reshape(*x.shape[:2], *shape).requires_grad_()
    y = block(x)
    reference = torch.from_numpy(DATA[f'{case}/y']).reshape(y.shape)
    grad_y = torch.from_numpy(DATA[f'{case}/grad_y']).reshape(y.shape)
    y.backward(grad_y)

    relative_y, relative = RELATIVE.get(backend, (1e-6, 1e-4))
    assert deviation(y, reference) < relative_y * largest(reference)
    grad_x = torch.from_numpy(DATA[f'{case}/grad_x']).reshape(x.shape)
    assert deviation(x.grad, grad_x) < relative * largest(grad_x)
    grads = convert_block_state_dict(tensors(case, 'grad'), rank)
    ours = dict(block.named_parameters())
    rounding = ROUNDING * max(map(largest, grads.values()))
    checked = 0
    for name, grad in grads.items():
        if settings['block'] == 'nl' and name.endswith('.conv.bias'):
            continue  # no such parameter in the author's block
        allowed = max(relative * largest(grad), rounding)
        assert deviation(ours[name].grad, grad) < allowed, name
        checked += 1
    assert checked == 6
