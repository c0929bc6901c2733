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


@pytest.fixture
def digest():
    """Return the content of every file of a folder, by its name."""

    def digest(folder):
        files = [path for path in folder.rglob('*') if path.is_file()]
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    return digest
