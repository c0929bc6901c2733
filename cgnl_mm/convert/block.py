"""A block of the author's code, by the names of this project.

Author's code: github.com/KaiyuYue/cgnl-network.pytorch.
"""

from typing import Dict

import torch
from torch import Tensor

# name in the author's code: name here
CGNL = {
    't': 'theta',
    'p': 'phi',
    'g': 'g',
    'z': 'conv_out',
    'gn': 'norm',
}
NON_LOCAL = {
    't': 'theta.conv',
    'p': 'phi.conv',
    'g': 'g.conv',
    'z': 'conv_out.conv',
    'bn': 'conv_out.bn',
}


def convert_block_state_dict(
    state_dict: Dict[str, Tensor], rank: int = 2
) -> Dict[str, Tensor]:
    """Rename the parameters of one of the author's blocks.

    The block is told from its norm: ``gn`` is a CGNL block and becomes a
    :class:`CGNL2d`, ``bn`` is his Non-local block and becomes mmcv's
    ``NonLocal2d(norm_cfg=dict(type='BN'))``, whose theta, phi and g have a
    bias that his do not: it is set to zero.

    Args:
        state_dict (dict[str, Tensor]): Names ``t.weight``, ``p.weight``,
            ``g.weight``, ``z.weight`` (1x1 convolutions) and ``gn.*`` or
            ``bn.*``, without prefix.
        rank (int): Spatial axes of the target block: 1, 2 or 3.
            Defaults to 2.

    Returns:
        dict[str, Tensor]: The parameters by the names of the target block.

    Raises:
        KeyError: If names are missing or unknown; all of them are listed.
    """
    modules = {key.split('.')[0] for key in state_dict}
    names = NON_LOCAL if 'bn' in modules else CGNL
    missing = sorted(set(names) - modules)
    unknown = sorted(modules - set(names))
    if missing or unknown:
        raise KeyError(
            f'not a block of the author: missing {missing}, unknown {unknown}'
        )
    converted = {}
    for key, value in state_dict.items():
        module, parameter = key.split('.', 1)
        if module in ('t', 'p', 'g', 'z'):
            value = value.reshape(*value.shape[:2], *[1] * rank)
        converted[f'{names[module]}.{parameter}'] = value
    if names is NON_LOCAL:
        for module in 'tpg':
            weight = state_dict[f'{module}.weight']
            converted[f'{names[module]}.bias'] = torch.zeros_like(
                weight[:, 0].flatten()
            )
    return converted
