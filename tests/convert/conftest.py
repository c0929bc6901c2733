"""The author's networks, and ours by our configs."""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

import cgnl_mm  # noqa: F401

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def reference():
    """The module reference.py."""
    path = Path(__file__).with_name('reference.py')
    spec = importlib.util.spec_from_file_location('reference', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build():
    """Build the model of one of our configs, its width reduced."""

    def build(name, width=None, classes=None):
        cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
        model = cfg.model
        if width is not None:
            model.backbone.update(base_channels=width, stem_channels=width)
            model.head.in_channels = 32 * width
        if classes is not None:
            model.head.num_classes = classes
        scope = cfg.default_scope
        registry = import_module(f'{scope}.registry').MODELS
        with DefaultScope.overwrite_default_scope(scope):
            return registry.build(model).eval()

    return build
