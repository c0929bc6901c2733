from importlib import import_module

import pytest
from mmengine.registry import init_default_scope


@pytest.fixture
def build():
    """Build a data set through its host's registry, in its scope."""

    def build(host, name, root, **settings):
        init_default_scope(host)
        registry = import_module(f'{host}.registry').DATASETS
        return registry.build(dict(settings, type=name, data_root=str(root)))

    return build
