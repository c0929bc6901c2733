"""Which defects are present here."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import pytest


@pytest.fixture
def originals():
    """For defects that the OneDL forks have mended."""
    with suppress(PackageNotFoundError):
        version('onedl-mmengine')
        pytest.skip('OneDL has mended it')


@pytest.fixture(scope='session')
def needs():
    """``needs('mmcv_ops')`` skips where that defect is not present."""
    from cgnl_mm import compat

    def check(name):
        if (status := compat.report()[name]) != 'applied':
            pytest.skip(f'{name}: {status}')

    return check
