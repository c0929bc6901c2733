"""A block with backend='triton' is the block that it is by its layers.

This file runs itself as a script: ``tests/tools/triton_runs.py``.
"""

import copy
from functools import partial

import pytest
import torch
from triton_runs import (
    check_close,
    check_on_gpu,
    needs_gpu,
    needs_interpreter,
    needs_triton,
    write_report,
)

from cgnl_mm import CGNL2d

NORMS = {
    'GN': None,
    'GN of one': dict(type='GN', num_groups=1),
    'GN of two each': dict(type='GN', num_groups=8),
    'BN': dict(type='BN'),
    'IN': dict(type='IN', affine=True),
    'none': False,
}


def check(mode, norm, training, device):
    """Outputs, gradients and running statistics of two calls."""
    block = CGNL2d(
        32, groups=4, mode=mode, norm_cfg=NORMS[norm], zero_init=False,
        backend='reference',
    ).to(device).train(training)  # fmt: skip
    with torch.no_grad():
        for tensor in block.parameters():
            tensor.copy_(0.2 * torch.randn(tensor.shape))
        for name, tensor in block.named_buffers():
            if 'running' in name:
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    blocks = copy.deepcopy(block), block, copy.deepcopy(block).double()
    blocks[0].backend = 'triton'
    x = torch.randn(3, 32, 5, 7).to(device)
    grad = torch.randn(x.shape).to(device)
    found = []
    for block in blocks:
        dtype = block.theta.weight.dtype
        leaf = x.to(dtype, copy=True).requires_grad_()
        for _ in range(2):
            out = block(leaf)
        out.backward(grad.to(dtype))
        values = {'out': out.detach(), 'x': leaf.grad, **block.state_dict()}
        values.update((n, p.grad) for n, p in block.named_parameters())
        found.append(values)
    for name, values in zip(found[0], zip(*(f.values() for f in found))):
        if not values[0].is_floating_point():
            assert torch.equal(*values[:2]), name
            continue
        check_close(name, *values, 16 * values[-1].abs().max())


CASES = {
    f'{mode}-{norm}-{"training" if training else "evaluation"}': partial(
        check, mode, norm, training
    )
    for mode in ('dot_product', 'embedded_gaussian')
    for norm in NORMS
    for training in ((True, False) if norm == 'BN' else (True,))
}


@needs_interpreter
@pytest.mark.parametrize('name', CASES)
def test_interpreted(name, interpreted):
    if interpreted[name]:
        pytest.fail(interpreted[name], pytrace=False)


@needs_gpu
@needs_triton
def test_on_gpu(poison):
    check_on_gpu(CASES)


if __name__ == '__main__':
    write_report(CASES)
