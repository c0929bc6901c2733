"""Checkpoints of others to this project's models."""

from .author import convert_block_state_dict
from .checkpoint import convert_checkpoint
from .network import ConversionError

__all__ = [
    'ConversionError',
    'convert_block_state_dict',
    'convert_checkpoint',
]
