import sys

import pytest

from cgnl_mm import compat

NAMES = list(compat.REPAIRS)


def test_report_prints_every_repair():
    report = compat.report()
    assert list(report) == NAMES
    for name, status in report.items():
        what = compat.REPAIRS[name].__doc__.splitlines()[0]
        assert f'{name}: {status}\n    {what}' in str(report)
        # who is told that nothing was done is told why
        assert ('(' in status) == (status != 'applied')


def test_apply_twice_patches_once():
    compat.apply()
    before, first = list(sys.meta_path), compat.report()
    compat.apply()
    assert sys.meta_path == before
    assert compat.report() == first


@pytest.mark.parametrize(
    'value, off',
    [
        ('0', set(NAMES)),
        ('1', set()),
        ('', set()),
        ('-mmcv_ops', {'mmcv_ops'}),
        ('-mmcv_ops, -safe_load', {'mmcv_ops', 'safe_load'}),
    ],
)
def test_switch(monkeypatch, value, off):
    monkeypatch.setenv('CGNL_MM_COMPAT', value)
    assert compat.switched_off() == off


@pytest.mark.parametrize('value', ['mmcv_ops', '-mmcv_op', 'no', '2'])
def test_switch_misspelt(monkeypatch, value):
    monkeypatch.setenv('CGNL_MM_COMPAT', value)
    with pytest.raises(ValueError, match='-mmcv_ops') as error:
        compat.switched_off()
    assert repr(value) in str(error.value)


def test_applying_imports_no_host_and_zero_switches_all_off(python):
    code = (
        'import importlib.util, sys, types\n'
        'package = types.ModuleType("cgnl_mm")\n'
        'spec = importlib.util.find_spec("cgnl_mm")\n'
        'package.__path__ = spec.submodule_search_locations\n'
        'sys.modules["cgnl_mm"] = package\n'
        'from cgnl_mm import compat\n'
        'print(compat.report())\n'
        'hosts = "mmcv mmdet mmaction mmpretrain".split()\n'
        'print("imported", [host for host in hosts if host in sys.modules])\n'
    )
    on, off = python('-c', code, off=''), python('-c', code, off='0')
    assert on.endswith('imported []\n') and off.endswith('imported []\n')
    assert 'switched off' not in on
    assert off.count('switched off (by CGNL_MM_COMPAT)') == len(NAMES)


def test_mmengine_saves_finds_and_loads_data_as_ever(python):
    """What a config does not name is MMEngine's own."""
    code = (
        'import cgnl_mm\n'
        'from mmengine.fileio import LocalBackend\n'
        'from mmengine.hooks import CheckpointHook, EarlyStoppingHook\n'
        'from mmengine.optim import OptimWrapper\n'
        'from mmengine.runner import Runner, find_latest_checkpoint, loops\n'
        'own = [value for kind in (LocalBackend, CheckpointHook, Runner,\n'
        '    EarlyStoppingHook, OptimWrapper, loops.EpochBasedTrainLoop,\n'
        '    loops._InfiniteDataloaderIterator, loops.IterBasedTrainLoop)\n'
        '    for value in vars(kind).values() if hasattr(value, "__code__")]\n'
        'for value in (find_latest_checkpoint, *own):\n'
        '    value = getattr(value, "__wrapped__", value)\n'
        '    assert "mmengine" in value.__code__.co_filename, value\n'
        'print(len(own))\n'
    )
    assert int(python('-c', code).split()[-1]) > 50
