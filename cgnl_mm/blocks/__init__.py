"""Blocks in OpenMMLab's root registry, so that every host finds them."""

from mmcv.cnn import NonLocal3d
from mmengine.registry import MODELS

from .cgnl import CGNL1d, CGNL2d, CGNL3d
from .logs import forward_to_mmengine

# mmcv registers NonLocal2d alone; the video baselines need this one.
MODELS.register_module(module=NonLocal3d, force=True)

__all__ = ['CGNL1d', 'CGNL2d', 'CGNL3d']

forward_to_mmengine()
