"""Compact Generalized Non-local blocks for PyTorch and OpenMMLab.

``custom_imports = dict(imports=['cgnl_mm'])`` in a config repairs what the
installed hosts lack (:mod:`cgnl_mm.compat`), lets every module take
``plugins``, and registers the blocks, the hooks and the data sets of every
host that is installed.

PyTorch alone is enough for the names in ``__all__``.
"""

import warnings

import torch

from . import compat, errors
from .hosts import has_openmmlab, register_hosts
from .ops.torch_versions import missing
from .version import __version__

__all__ = [
    'CGNL1d',
    'CGNL2d',
    'CGNL3d',
    '__version__',
    'compat',
    'errors',
    'insert_after',
]

if missing():
    warnings.warn(
        f'PyTorch {torch.__version__} works with cgnl_mm, but: {missing()}',
        stacklevel=2,
    )
if has_openmmlab():
    compat.apply()

from .blocks import CGNL1d, CGNL2d, CGNL3d  # noqa: E402  after the cures
from .insertion import insert_after  # noqa: E402

if has_openmmlab():
    from . import training  # noqa: F401  registers the hooks

    register_hosts()
