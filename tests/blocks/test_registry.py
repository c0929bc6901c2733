"""Configs of every host find the blocks by their bare names."""

from importlib.util import find_spec

from mmengine.registry import MODELS

import cgnl_mm  # noqa: F401

# One interpreter for all hosts: a look-up must not import their model zoos,
# which this process may have done already.
CODE = """
import importlib, sys
import cgnl_mm
for host in ('mmengine', *sys.argv[1:]):
    registry = importlib.import_module(f'{host}.registry').MODELS
    registry.import_from_location = lambda: None  # the zoo stays shut
    for scope in (None, host):
        with registry.switch_scope_and_registry(scope) as found:
            for cls in cgnl_mm.CGNL1d, cgnl_mm.CGNL2d, cgnl_mm.CGNL3d:
                cfg = dict(type=cls.__name__, in_channels=16, groups=4)
                block = found.build(cfg)
                assert type(block) is cls, (host, scope, block)
    assert f'{host}.models' not in sys.modules, host
print('built')
"""


def test_built_from_each_host_without_its_models(python):
    hosts = filter(find_spec, ('mmpretrain', 'mmaction', 'mmdet'))
    assert python('-c', CODE, *hosts, off='').endswith('built\n')


def test_non_local_3d():
    """mmcv has the class and registers the 2D one alone."""
    block = MODELS.build(dict(type='NonLocal3d', in_channels=8))
    assert type(block).__module__ == 'mmcv.cnn.bricks.non_local'
    assert block.theta.conv.kernel_size == (1, 1, 1)
