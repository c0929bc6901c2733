"""Compact Generalized Non-local blocks for OpenMMLab.

``custom_imports = dict(imports=['cgnl_mm'])`` in a config repairs what the
installed hosts lack (:mod:`cgnl_mm.compat`) and registers the blocks, the
plugin backbones and the data sets of every host that is installed.

Without mmcv, :mod:`cgnl_mm.ops` works, and the blocks say what to install.
"""

import warnings

import torch

from . import compat, errors
from .hosts import has_openmmlab, register_hosts, require_mmcv
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

    from . import training  # noqa: F401  registers the hooks
    from .blocks import CGNL1d, CGNL2d, CGNL3d

    register_hosts()
else:

    def __getattr__(name: str):
        if name in ('CGNL1d', 'CGNL2d', 'CGNL3d'):
            require_mmcv()
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


from .insertion import insert_after  # noqa: E402  after the cures
