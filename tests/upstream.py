"""The hosts' own backbone tests, run against our backbones without plugins.

A pytest plugin. The hosts' packages come without their tests, so fetch these
of the tested versions first: mmdetection's and mmpretrain's
``tests/test_models/test_backbones``, mmaction2's ``tests/models/backbones``.

    PYTHONPATH=tests python -m pytest -p upstream FOLDER/test_resnet.py
    PYTHONPATH=tests STOCK=1 python -m pytest -p upstream FOLDER/test_resnet.py

What the first command fails and the second does not is ours.
"""

import os
import sys
from importlib import import_module

import cgnl_mm  # noqa: F401  repairs the hosts, in both commands

HOSTS = ('mmpretrain', 'mmaction', 'mmdet')
swapped = []


def pytest_configure():
    if os.environ.get('STOCK'):
        return
    for host in HOSTS:
        stock = import_module(f'{host}.models.backbones')
        ours = import_module(f'cgnl_mm.backbones.{host}')
        for name in dir(ours):
            if name.startswith('Plugin') and hasattr(stock, name[6:]):
                # where the tests import it from; its own module keeps it
                for package in (stock, sys.modules[f'{host}.models']):
                    if hasattr(package, name[6:]):
                        setattr(package, name[6:], getattr(ours, name))
                        swapped.append(f'{package.__name__}.{name[6:]}')


def pytest_report_header():
    return f'ours in place of: {", ".join(swapped) or "nothing"}'
