"""Give the hosts the names that numpy has removed.

Symptom: ``AttributeError: module 'numpy' has no attribute 'trapz'`` (or
``in1d``), ```np.Inf` was removed in the NumPy 2.0 release``, ``module
'numpy' has no attribute 'float'``: the recall of temporal localisation and
the pose transforms of mmaction2, the retrieval metrics of mmpretrain and
mmaction2, mmdet's YouTube-VIS evaluation.

Versions: numpy >= 1.24 (float), 2.0 (Inf) and 2.4 (trapz, in1d), with
mmpretrain 1.2.0, mmaction2 1.2.0, mmdet 3.3.0.

Upstream: https://numpy.org/devdocs/numpy_2_0_migration_guide.html

Cure: the modules concerned, and no others, see a numpy that has the names
that the real one lacks. numpy itself stays as it is.

Delete when: the hosts use today's names.
"""

from types import ModuleType
from typing import Optional

from .imports import after_import

MODULES = (
    'mmaction.datasets.transforms.pose_transforms',
    'mmaction.evaluation.functional.accuracy',
    'mmaction.evaluation.metrics.multimodal_metric',
    'mmaction.utils.misc',
    'mmdet.evaluation.functional.ytviseval',
    'mmpretrain.evaluation.metrics.retrieval',
)


def not_needed() -> Optional[str]:
    import numpy as np  # PyTorch alone comes without it

    if all(hasattr(np, name) for name in ('Inf', 'float', 'in1d', 'trapz')):
        return f'numpy {np.__version__} has them all'
    return None


def _give_names(module: ModuleType) -> None:
    """Put a numpy with the old names in place of the ``np`` of a module."""
    np, numpy = module.np, ModuleType('numpy')

    def in1d(ar1, ar2, **kwargs):
        """Return what numpy 1's in1d returns: isin of a flattened array."""
        return np.isin(np.ravel(ar1), ar2, **kwargs)

    # trapezoid is new where trapz is gone
    trapz = getattr(np, 'trapezoid', None)
    old = dict(Inf=np.inf, float=float, in1d=in1d, trapz=trapz)
    vars(numpy).update({**old, **vars(np)})
    module.np = numpy


def apply() -> None:
    for module in MODULES:
        after_import(module, _give_names)
