"""Hosts are optional, imported late, and found by their own registries."""

import sys
import textwrap

import pytest

from cgnl_mm import hosts
from cgnl_mm.errors import MissingHostError

CLASSES = {
    'mmpretrain': 'ResNet ResNetV1c ResNetV1d ResNeXt SEResNet',
    'mmdet': 'ResNet ResNetV1d ResNeXt',
    'mmaction': 'ResNet ResNet3d ResNet3dSlowOnly ResNet2Plus1d ResNet3dCSN',
}


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
        for host in {list(CLASSES)}:
            assert f'{{host}}.models' not in sys.modules, host
            assert f'cgnl_mm.backbones.{{host}}' not in sys.modules
        for host, names in {CLASSES}.items():
            models = importlib.import_module(f'{{host}}.registry').MODELS
            for name in names.split():
                found = models.get(f'Plugin{{name}}')
                assert found is not None, (host, name)
                assert found.__module__ == f'cgnl_mm.backbones.{{host}}'
                assert found is models.get(f'{{host}}.Plugin{{name}}')
            assert models.get('CGNL3d') is cgnl_mm.CGNL3d
            assert models.get('NonLocal3d') is not None
    """)


def test_registry_in_use_before(fresh):
    """Also when a host filled its registry before cgnl_mm came (mmpretrain
    alone imports without compat)."""
    fresh("""
        from mmpretrain.registry import MODELS
        assert MODELS.get('ResNet') is not None
        assert MODELS.get('PluginResNet') is None
        import cgnl_mm
        assert MODELS.get('PluginResNet') is not None
        cgnl_mm.hosts.register_hosts()  # again, without harm
    """)


NO_HOSTS = """
    import sys
    for host in ('mmpretrain', 'mmaction', 'mmdet'):
        sys.modules[host] = None  # how Python marks what cannot be found
"""


def test_no_host_at_all(fresh):
    """The blocks work with mmengine and mmcv alone."""
    printed = fresh(
        NO_HOSTS
        + """
    import torch
    from mmengine.registry import MODELS
    import cgnl_mm
    block = MODELS.build(dict(type='CGNL2d', in_channels=16))
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(block(x), x)
    for host in ('mmpretrain', 'mmaction', 'mmdet', 'mmengine'):
        try:
            cgnl_mm.hosts.require_host(host)
        except cgnl_mm.hosts.MissingHostError as error:
            print(error)
    """
    )
    assert 'mmengine is not' not in printed
    for host, package in (
        ('mmpretrain', 'mmpretrain'),
        ('mmaction', 'mmaction2'),
        ('mmdet', 'mmdet'),
    ):
        assert f'{host} is not installed' in printed
        assert f'pip install {package}==' in printed


def test_installed_host_passes():
    for host in CLASSES:
        hosts.require_host(host)


def test_no_mmcv(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    with pytest.raises(MissingHostError, match='pip install mmcv-lite'):
        hosts.require_mmcv()


def test_without_openmmlab_the_operators_work_and_the_blocks_say_why(fresh):
    printed = fresh("""
        import sys
        sys.modules['mmcv'] = sys.modules['mmengine'] = None
        import torch
        from cgnl_mm.ops import cgnl_attention
        x = torch.ones(1, 8, 3)
        assert cgnl_attention(x, x, x, groups=4).eq(6).all()
        import cgnl_mm
        try:
            cgnl_mm.CGNL2d
        except cgnl_mm.errors.MissingHostError as error:
            print(error)
    """)
    assert 'pip install mmcv-lite' in printed


def test_broken_host_is_left_out(fresh, tmp_path):
    """It is named with its error, and the others work."""
    package = tmp_path / 'mmaction'
    package.mkdir()
    (package / '__init__.py').write_text("raise AssertionError('too old')")
    printed = fresh(
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            import cgnl_mm
        ours = [str(w.message) for w in caught if 'mmaction' in str(w.message)]
        assert len(ours) == 1, ours
        print(ours[0])
        from mmpretrain.registry import MODELS
        assert MODELS.get('PluginResNet') is not None
        """,
        tmp_path,
    )
    assert 'mmaction is installed but does not import' in printed
    assert 'AssertionError: too old' in printed
