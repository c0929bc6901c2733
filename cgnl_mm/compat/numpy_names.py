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

import importlib.util
from types import ModuleType
from typing import Optional

import numpy as np

from .after_import import after_import
from .workaround import Workaround

NEW_NAMES = dict(
    Inf=lambda: np.inf,
    float=lambda: float,
    in1d=lambda: _in1d,
    trapz=lambda: np.trapezoid,
)
MODULES = (
    'mmaction.datasets.transforms.pose_transforms',
    'mmaction.evaluation.functional.accuracy',
    'mmaction.evaluation.metrics.multimodal_metric',
    'mmaction.utils.misc',
    'mmdet.evaluation.functional.ytviseval',
    'mmpretrain.evaluation.metrics.retrieval',
)


def _in1d(ar1, ar2, **kwargs):
    """Return what numpy 1's in1d returns: isin of a flattened array."""
    return np.isin(np.ravel(ar1), ar2, **kwargs)


def _removed():
    return [name for name in NEW_NAMES if not hasattr(np, name)]


def not_needed() -> Optional[str]:
    if not _removed():
        return f'numpy {np.__version__} has them all'
    hosts = {module.split('.')[0] for module in MODULES}
    if not any(importlib.util.find_spec(host) for host in hosts):
        return 'no host that uses them is installed'
    return None


def _give_names(module: ModuleType) -> None:
    """Put a numpy with the old names in place of the ``np`` of a module."""
    numpy = ModuleType('numpy')
    numpy.__dict__.update(vars(np))
    for name in _removed():
        setattr(numpy, name, NEW_NAMES[name]())
    module.np = numpy


def apply() -> None:
    for module in MODULES:
        after_import(module, _give_names)


WORKAROUND = Workaround(
    name='numpy_names',
    symptom="AttributeError: module 'numpy' has no attribute 'trapz'",
    versions='numpy >= 1.24, 2.0 or 2.4, by the name',
    upstream='https://numpy.org/devdocs/numpy_2_0_migration_guide.html',
    not_needed=not_needed,
    apply=apply,
)
