"""Checkpoints of mmaction2's own non-local networks.

mmaction2 builds its NonLocal3d into the residual unit (``non_local`` of I3D
and SlowOnly), or wraps the unit (TSM, TIN). Here the block follows the unit.
"""

import re
from typing import Dict, List

from torch import Tensor

from .network import ConversionError, listed

BLOCK = re.compile(r'((?:\w+_path\.)?layer\d+)\.(\d+)\.non_local_block\.')
WRAPPED = re.compile(r'(layer\d+\.\d+)\.block\.')


def convert_non_local(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Rename mmaction2's non-local blocks as those of our ``plugins``.

    Args:
        state (dict[str, Tensor]): State dict of a network with ``non_local``.

    Returns:
        dict[str, Tensor]: The same tensors: ``layer2.1.non_local_block.`` is
        ``layer2.non_local3d_1.``, and all other names are those of the
        network without blocks.

    Raises:
        ConversionError: If the network has no such block.
    """
    if not places_of(state):
        raise ConversionError(
            'not a network of mmaction2 with non_local: no name has '
            f'non_local_block among {listed(list(state))}'
        )
    return {
        WRAPPED.sub(r'\1.', BLOCK.sub(r'\1.non_local3d_\2.', key)): value
        for key, value in state.items()
    }


def places_of(state: Dict[str, Tensor]) -> List[str]:
    """List the units that a block follows, as ``after`` names them."""
    found = (BLOCK.search(key) for key in state)
    return list(dict.fromkeys(f'{m[1]}.{m[2]}' for m in found if m))


def advise_plugins(state: Dict[str, Tensor]) -> str:
    """Say what takes the place of ``non_local`` in the network's config.

    Args:
        state (dict[str, Tensor]): As mmaction2 names it.
    """
    frames = ', frames=NUM_SEGMENTS' * any(map(WRAPPED.search, state))
    return (
        'the config of the network, with this in place of non_local and '
        "non_local_cfg:\n         plugins=[dict(cfg=dict(type='NonLocal3d', "
        f'**NON_LOCAL_CFG), after={places_of(state)}{frames})]'
    )
