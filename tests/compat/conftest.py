"""Processes of their own, with chosen workarounds switched off."""

import os
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='session')
def python(warm, warm_torch):
    """``python(*args, off='', path='')`` runs a program.

    ``off`` is the value of CGNL_MM_COMPAT, for a process that has imported
    torch alone; without it, every repair is there, and every host. ``path``
    goes before the repository on PYTHONPATH. Returns the CompletedProcess
    with stdout and stderr together in ``stdout``.
    """

    def run(*args, off=None, path='', cwd=None):
        env = dict(os.environ, CGNL_MM_COMPAT=off or '')
        folders = [path, str(ROOT), env.get('PYTHONPATH', '')]
        env['PYTHONPATH'] = os.pathsep.join(filter(None, folders))
        return subprocess.run(
            [warm if off is None else warm_torch, *map(str, args)],
            env=env,
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )

    return run


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
