"""Hosts are optional, imported late, and found by their own registries."""

import sys
import textwrap

import pytest

from cgnl_mm import hosts
from cgnl_mm.errors import MissingHostError

HOSTS = ['mmpretrain', 'mmdet', 'mmaction']


@pytest.fixture
def fresh(python):
    """Run code where torch alone is imported; return what it printed."""
    return lambda code, path='': python(
        '-c', textwrap.dedent(code), off='', path=path
    )


def test_hosts_are_imported_on_first_use(fresh):
    """``import cgnl_mm`` loads no models; a look-up then finds ours."""
    fresh(f"""
        import importlib, sys
        import cgnl_mm
        for host in {HOSTS}:
            assert f'{{host}}.models' not in sys.modules, host
        for host in {HOSTS}:
            models = importlib.import_module(f'{{host}}.registry').MODELS
            found = models.get('mmpretrain.DropoutLinearClsHead')
            assert found.__module__ == 'cgnl_mm.heads'
            assert models.get('CGNL3d') is cgnl_mm.CGNL3d
            assert models.get('NonLocal3d') is not None
    """)


def test_registry_in_use_before(fresh):
    """A host may fill its registry before cgnl_mm comes. (mmpretrain alone
    imports without compat.)"""
    fresh("""
        from mmpretrain.registry import MODELS
        assert MODELS.get('ResNet') is not None
        assert MODELS.get('DropoutLinearClsHead') is None
        import cgnl_mm
        assert MODELS.get('DropoutLinearClsHead') is not None
        cgnl_mm.hosts.register_hosts()  # again, without harm
    """)


@pytest.mark.parametrize('missing', hosts.HOSTS)
def test_missing_package(missing, monkeypatch):
    """tests/tools/test_errors.py has those that every host needs."""
    # Python marks so what cannot be found.
    monkeypatch.setitem(sys.modules, missing, None)
    message = f'{missing} is not installed.*pip install {missing}2?=='
    with pytest.raises(MissingHostError, match=message):
        hosts.require_host(missing)
    monkeypatch.undo()
    hosts.require_host(missing)
    hosts.require_host('mmengine')  # not one of ours


def test_broken_host_is_left_out(fresh, tmp_path):
    """It is named with its error, and the others work."""
    package = tmp_path / 'mmaction/__init__.py'
    package.parent.mkdir()
    package.write_text("raise AssertionError('too old')")
    printed = fresh(
        """
        import cgnl_mm
        from mmpretrain.registry import MODELS
        assert MODELS.get('DropoutLinearClsHead') is not None
        """,
        tmp_path,
    )
    message = 'mmaction is installed but does not import'
    assert printed.count(message) == 1
    assert 'AssertionError: too old' in printed
