"""Provide the module that is missing from the mmaction2 wheel.

Symptom: ``import mmaction.models`` ends with ``ModuleNotFoundError: No
module named 'mmaction.models.localizers.drn'``; through a registry it is
only a warning, and then every model "is not in the registry".

Versions: mmaction2 1.2.0, the wheel. A checkout has the module.

Upstream: https://github.com/open-mmlab/mmaction2/issues/2714 (the folder
has no ``__init__.py``, so that packaging leaves it out)

Cure: ``stand_ins/drn`` is importable as ``mmaction.models.localizers.drn``.
Its DRN cannot be built, and says so.

Delete when: an mmaction2 wheel with the module is the oldest supported one.
"""

import importlib.util
from pathlib import Path
from typing import Optional

from .imports import provide

PACKAGE = 'mmaction'


def not_needed() -> Optional[str]:
    package = Path(importlib.util.find_spec('mmaction').origin).parent
    if (package / 'models/localizers/drn/drn.py').is_file():
        return 'this mmaction2 has the module'
    return None


def apply() -> None:
    provide('mmaction.models.localizers.drn', 'drn/__init__.py')
