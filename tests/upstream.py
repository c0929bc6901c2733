"""Run the hosts' own backbone tests on our backbones without plugins.

This file is a pytest plugin. The hosts' packages come without their tests, so
fetch those of the tested versions first: mmdetection's and mmpretrain's
``tests/test_models/test_backbones``, mmaction2's ``tests/models/backbones``.
Put the files outside of a checkout of the host, whose own package and
options of pytest would get in the way.

    PYTHONPATH=tests python -m pytest -p upstream FOLDER/test_resnet.py
    PYTHONPATH=tests STOCK=1 python -m pytest -p upstream FOLDER/test_resnet.py

A test that fails in the first command alone has found a fault of ours. Some
tests load ``torchvision://resnet50``. Without a network, save any ResNet-50 of
torchvision as ``$TORCH_HOME/hub/checkpoints/resnet50-0676ba61.pth``.
"""

import os
import re
import sys
from collections import Counter
from importlib import import_module

import pytest
from mmengine.registry import DefaultScope

import cgnl_mm  # noqa: F401  repairs the hosts, in both commands

HOSTS = ('mmpretrain', 'mmaction', 'mmdet')
swapped = []
built = Counter()


def pytest_configure():
    if os.environ.get('STOCK'):
        return
    from cgnl_mm.backbones.plugins import PluginMixin

    plain = PluginMixin.__init__

    def counted(self, *args, **kwargs):
        built[f'{type(self).__module__}.{type(self).__name__}'] += 1
        plain(self, *args, **kwargs)

    PluginMixin.__init__ = counted
    for host in HOSTS:
        stock = import_module(f'{host}.models.backbones')
        ours = import_module(f'cgnl_mm.backbones.{host}')
        for name in dir(ours):
            if name.startswith('Plugin') and hasattr(stock, name[6:]):
                # The tests import it from here; its own module keeps it.
                for package in (stock, sys.modules[f'{host}.models']):
                    if hasattr(package, name[6:]):
                        setattr(package, name[6:], getattr(ours, name))
                        swapped.append(f'{package.__name__}.{name[6:]}')


@pytest.fixture(autouse=True)
def host_scope(request):
    """Set the scope, which other tests of a host's suite would have set."""
    host = re.search(r'^from (\w+)\.models', request.path.read_text(), re.M)
    with DefaultScope.overwrite_default_scope(host and host[1]):
        yield


def pytest_report_header():
    return f'ours in place of: {", ".join(swapped) or "nothing"}'


def pytest_terminal_summary(terminalreporter):
    counts = ', '.join(f'{n} {name}' for name, n in built.items())
    terminalreporter.write_line(f'built of ours: {counts or "nothing"}')
