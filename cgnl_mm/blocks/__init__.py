"""The blocks. PyTorch alone is enough; OpenMMLab finds them by name."""

from importlib.util import find_spec

from .cgnl import CGNL1d, CGNL2d, CGNL3d

__all__ = ['CGNL1d', 'CGNL2d', 'CGNL3d']

if find_spec('mmengine') and find_spec('mmcv'):
    from mmcv.cnn import NonLocal3d
    from mmengine.registry import MODELS

    from .logs import forward_to_mmengine

    for block in (CGNL1d, CGNL2d, CGNL3d):
        MODELS.register_module(module=block)
    # mmcv registers NonLocal2d alone; the video baselines need this one.
    MODELS.register_module(module=NonLocal3d, force=True)
    forward_to_mmengine()
