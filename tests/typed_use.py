"""Use the public interface as a typed program does; ``make lint`` checks it.

mypy reports a name that has lost its types, and an ``ignore`` that a mistake
no longer needs.
"""

from typing import Dict, Tuple

import torch
from torch import Tensor, nn

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d, insert_after
from cgnl_mm.convert import convert_block_state_dict, convert_checkpoint
from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)


def attend(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    terms: Tuple[float, ...] = taylor_coefficients('gaussian_rbf', order=3)
    y: Tensor = cgnl_attention(theta, phi, g, terms, groups=8, scale=0.5)
    cgnl_attention(theta, phi, g, groups='8')  # type: ignore[arg-type]
    exact: Tensor = generalized_nonlocal(theta, phi, g, kernel=terms, groups=8)
    return y - exact


def insert(network: nn.Module, example: Tensor) -> nn.Module:
    block: nn.Module = CGNL2d(64, norm_cfg=dict(type='BN'), use_scale=True)
    CGNL3d(64, group=8)  # type: ignore[call-arg]
    CGNL1d('64')  # type: ignore[arg-type]
    insert_after(network, 3, block)  # type: ignore[arg-type]
    return insert_after(network, 'layer3.4', block, example=example)


def convert(path: str) -> Dict[str, Tensor]:
    checkpoint = torch.load(path, weights_only=True)
    convert_checkpoint(checkpoint, targets='mmdet')  # type: ignore[call-arg]
    state: Dict[str, Tensor] = convert_block_state_dict(checkpoint, rank=3)
    return convert_checkpoint(state, target='mmdet', backbone_only=False)
