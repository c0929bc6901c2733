"""Configs of every host find the blocks by their bare names."""

import importlib.util

import pytest
from mmengine.registry import MODELS

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d


@pytest.mark.parametrize('cls', [CGNL1d, CGNL2d, CGNL3d])
def test_built_from_the_root(cls):
    cfg = dict(type=cls.__name__, in_channels=16, groups=2, mode='learnable')
    block = MODELS.build(cfg)
    assert type(block) is cls
    assert (block.groups, block.mode) == (2, 'learnable')


# One interpreter for all hosts: a look-up must not import their model zoos,
# which this process may have done already.
CODE = """
import importlib, sys
import cgnl_mm
for host in sys.argv[1:]:
    registry = importlib.import_module(f'{host}.registry').MODELS
    registry.import_from_location = lambda: None  # the zoo stays shut
    for scope in (None, host):
        with registry.switch_scope_and_registry(scope) as found:
            cfg = dict(type='CGNL2d', in_channels=16, groups=4)
            block = found.build(cfg)
            assert type(block) is cgnl_mm.CGNL2d, (host, scope, block)
    assert f'{host}.models' not in sys.modules, host
print('built')
"""


def test_built_from_each_host_without_its_models(python):
    hosts = [
        host
        for host in ('mmpretrain', 'mmaction', 'mmdet')
        if importlib.util.find_spec(host)
    ]
    assert python('-c', CODE, *hosts, off='').endswith('built\n')


def test_non_local_3d():
    """mmcv has the class and registers the 2D one alone."""
    block = MODELS.build(dict(type='NonLocal3d', in_channels=8))
    assert type(block).__module__ == 'mmcv.cnn.bricks.non_local'
    assert block.theta.conv.kernel_size == (1, 1, 1)
