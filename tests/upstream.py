"""Run the hosts' own tests with cgnl_mm imported and its key active.

This file is a pytest plugin. mmsegmentation installs its tests beside itself
(``tests/test_models/test_backbones``). The packages of the other hosts come
without, so fetch those of the tested versions first: mmdetection's and
mmpretrain's ``tests/test_models/test_backbones``, mmaction2's
``tests/models/backbones``. Put the files outside of a checkout of the host,
whose own package and options of pytest would get in the way, and into a folder
that has not the name of a package.

    PYTHONPATH=tests python -m pytest -p upstream FOLDER/test_resnet.py
    PYTHONPATH=tests CGNL_MM_COMPAT=-plugins_key python -m pytest -p upstream \
FOLDER/test_resnet.py

A test that fails in the first command alone has found a fault of ours. Some
tests load ``torchvision://resnet50`` or ``torchvision://resnet18``. Without a
network, save any of torchvision's in ``$TORCH_HOME/hub/checkpoints``, as
``resnet50-0676ba61.pth`` and ``resnet18-f37072fd.pth``.
"""

import re

import pytest
from mmengine.registry import DefaultScope

import cgnl_mm


@pytest.fixture(autouse=True)
def host_scope(request):
    """Set the scope, which other tests of a host's suite would have set."""
    host = re.search(r'^from (\w+)\.models', request.path.read_text(), re.M)
    with DefaultScope.overwrite_default_scope(host and host[1]):
        yield


def pytest_report_header():
    return f'the key `plugins`: {cgnl_mm.compat.report()["plugins_key"]}'
