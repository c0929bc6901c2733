"""What the tools share: options, configs, and errors in one line."""

import sys

from ..errors import MissingHostError
from ..hosts import require_mmcv

try:
    require_mmcv()
except MissingHostError as error:
    # The modules of the tools cannot be imported, so run() is out of reach.
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)

from ..checkpoints import require_file
from .config import (
    add_model_options,
    add_shape_option,
    load_config,
    make_parser,
    read_config_file,
)
from .data import require_data
from .errors import run
from .output import require_writable

__all__ = [
    'add_model_options',
    'add_shape_option',
    'load_config',
    'make_parser',
    'read_config_file',
    'require_data',
    'require_file',
    'require_writable',
    'run',
]
