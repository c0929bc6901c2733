"""One block of the author's code, by the names of this project.

Author's code: github.com/KaiyuYue/cgnl-network.pytorch.
"""

from typing import Dict, Optional, Tuple

from torch import Tensor

# The modules of a block in the author's code, and here.
BLOCKS = {
    'CGNL2d': dict(t='theta', p='phi', g='g', z='conv_out', gn='norm'),
    'NonLocal2d': dict(
        t='theta.conv', p='phi.conv', g='g.conv', z='conv_out.conv',
        bn='conv_out.bn',
    ),
}  # fmt: skip
# What a block has here that the author's has not.
BIASES: Dict[Optional[str], Tuple[str, ...]] = {
    'NonLocal2d': ('theta.conv.bias', 'phi.conv.bias', 'g.conv.bias')
}


def convert_block_state_dict(
    state_dict: Dict[str, Tensor], rank: int = 2
) -> Dict[str, Tensor]:
    """Rename the parameters of one of the author's blocks.

    The norm tells the block: ``gn`` is a CGNL block and becomes a
    :class:`CGNL2d`; ``bn`` is the author's Non-local block and becomes mmcv's
    ``NonLocal2d(norm_cfg=dict(type='BN'))``. Its theta, phi and g have a bias
    that the author's do not have, and that is set to zero.

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
    block = 'NonLocal2d' if 'bn' in modules else 'CGNL2d'
    names = BLOCKS[block]
    if modules != names.keys():
        raise KeyError(
            'this is not a block of the author: missing '
            f'{sorted(names.keys() - modules)}, unknown '
            f'{sorted(modules - names.keys())}'
        )
    converted = {}
    for key, value in state_dict.items():
        module, parameter = key.split('.', 1)
        if value.dim() > 1:
            value = value.reshape(*value.shape[:2], *[1] * rank)
        converted[f'{names[module]}.{parameter}'] = value
    weight = state_dict['t.weight']
    for name in BIASES.get(block, ()):
        converted[name] = weight.new_zeros(len(weight))
    return converted
