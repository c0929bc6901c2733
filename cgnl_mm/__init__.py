"""Compact Generalized Non-local blocks for OpenMMLab.

``custom_imports = dict(imports=['cgnl_mm'])`` in a config repairs what the
installed hosts lack (:mod:`cgnl_mm.compat`) and registers the blocks, the
plugin backbones and the data sets of every host that is installed.
"""

from . import compat
from .hosts import register_hosts, require_mmcv

require_mmcv()
compat.apply()

from .blocks import CGNL1d, CGNL2d, CGNL3d  # noqa: E402
from .version import __version__  # noqa: E402

register_hosts()

__all__ = ['CGNL1d', 'CGNL2d', 'CGNL3d', '__version__', 'compat']
