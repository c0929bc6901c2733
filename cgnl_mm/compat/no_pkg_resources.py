"""Let mmengine do without pkg_resources.

Symptom: ``ModuleNotFoundError: No module named 'pkg_resources'`` from any
config with ``_base_ = 'mmdet::...'`` (or another host); a UserWarning that
pkg_resources is deprecated, twice at every start.

Versions: mmengine <= 0.10.7 with setuptools >= 82, or without setuptools,
as in a new virtual environment of Python >= 3.12. The warning: setuptools
80.9 and 81.

Upstream: https://setuptools.pypa.io/en/stable/history.html (82.0.0);
mmengine never declared setuptools.

Cure: mmengine's two questions, whether a package is installed and where,
are answered by ``importlib.metadata`` and ``importlib.util``.

Delete when: mmengine does so itself.
"""

import importlib.metadata
import importlib.util
import os.path
from types import ModuleType
from typing import Optional

from .imports import after_import, replace


def _find(package: str) -> Optional[str]:
    """Return the folder of a distribution ('mmaction2') or a module."""
    names = [package]
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        names += (distribution.read_text('top_level.txt') or '').split()
    for name in names:
        spec = importlib.util.find_spec(name)
        # a namespace package has no origin: a folder that happens to be
        # in the current directory
        if spec is not None and spec.origin is not None:
            return os.path.dirname(spec.origin)
    return None


def is_installed(package: str) -> bool:
    """Return whether a distribution or module of that name is installed."""
    return _find(package) is not None


def get_installed_path(package: str) -> str:
    """Return the folder of a package.

    Args:
        package (str): Name of a distribution or module.

    Raises:
        PackageNotFoundError: There is none.
    """
    path = _find(package)
    if path is None:
        raise importlib.metadata.PackageNotFoundError(package)
    return path


def _mend(package_utils: ModuleType) -> None:
    """Replace both functions wherever mmengine has put them."""
    for new in (is_installed, get_installed_path):
        replace(getattr(package_utils, new.__name__), new)


def apply() -> None:
    after_import('mmengine.utils.package_utils', _mend)
