"""The author's networks, and the models of our configs."""

import demos
import pytest
import torch
from mmengine.config import Config

from cgnl_mm.hosts import HOME


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
        return demos.build(cfg).eval()

    return build
