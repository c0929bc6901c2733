"""Put torchvision's operators in the place of mmcv's compiled ones.

Symptom: with mmcv-lite, ``import mmcv.ops``, ``mmdet.models`` and
``mmdet.datasets`` end with ``ModuleNotFoundError: No module named
'mmcv._ext'``.

Versions: every mmcv-lite. The compiled mmcv is on PyPI as source only, and
no wheel of it exists for torch >= 2.2.

Upstream: https://github.com/open-mmlab/mmcv/issues/2059,
https://github.com/open-mmlab/mmdetection/issues/11475

Cure: ``stand_ins/mmcv_ext.py`` is importable as ``mmcv._ext``. A compiled
mmcv always wins. It acts from ``import cgnl_mm`` on: a script that imports
``mmdet.models`` before it reads the config, as mmdet's own ``tools/test.py``
does (not its ``tools/train.py``), still fails; ours does not.

Delete when: OpenMMLab publishes mmcv wheels for the torch in
``requirements/constraints.txt``, or its hosts take torchvision's operators.
"""

import importlib.machinery
import importlib.util
import sys
from typing import Optional

from .imports import provide

PACKAGE = 'mmcv'


def not_needed() -> Optional[str]:
    (folder,) = importlib.util.find_spec('mmcv').submodule_search_locations
    if importlib.machinery.PathFinder.find_spec('_ext', [folder]):
        return 'this mmcv is compiled'
    return None


def apply() -> None:
    provide('mmcv._ext', 'mmcv_ext.py')
    # Imported before us, it has done without the operator, which mmdet
    # takes from there.
    transformer = sys.modules.get('mmcv.cnn.bricks.transformer')
    if transformer is not None:
        from mmcv.ops import MultiScaleDeformableAttention as Attention

        transformer.MultiScaleDeformableAttention = Attention
