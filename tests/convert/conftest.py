"""The author's networks, and the models of our configs."""

import importlib.util
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cgnl_mm.hosts import HOME


@pytest.fixture(scope='session')
def reference():
    """The module reference.py."""
    path = Path(__file__).with_name('reference.py')
    spec = importlib.util.spec_from_file_location('reference', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def zeros():
    """Return a state dict of a class of reference.py that takes no memory."""

    def zeros(kind, *settings):
        with torch.device('meta'):
            state = kind(*settings).state_dict()
        return {k: torch.zeros(()).expand(v.shape) for k, v in state.items()}

    return zeros


@pytest.fixture
def build():
    """Build the model of one of our configs, its width reduced."""

    def build(name, width=None):
        cfg = Config.fromfile(HOME / 'configs' / f'{name}.py')
        model = cfg.model
        if width is not None:
            model.backbone.update(base_channels=width, stem_channels=width)
            model.head.in_channels = 32 * width
        scope = cfg.default_scope
        registry = import_module(f'{scope}.registry').MODELS
        with DefaultScope.overwrite_default_scope(scope):
            return registry.build(model).eval()

    return build
