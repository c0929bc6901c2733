"""What inserted blocks attend to: maps, statistics, pictures.

:mod:`~cgnl_mm.visualization.draw` and the modules on top of it need
matplotlib, which this module does not import.
"""

from .attention import attention_map, group_factors
from .blocks import block_inputs, find_blocks, is_cgnl

__all__ = [
    'block_inputs',
    'attention_map',
    'find_blocks',
    'group_factors',
    'is_cgnl',
]
