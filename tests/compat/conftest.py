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

    records = {record.name: record for record in compat.report()}

    def check(name):
        if records[name].status != 'applied':
            pytest.skip(f'{name}: {records[name].reason}')

    return check
