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
    """Build the model of one of our configs, an eighth as wide."""

    def build(name):
        cfg = Config.fromfile(HOME / 'configs' / f'{name}.py')
        cfg.model.backbone.update(base_channels=8, stem_channels=8)
        cfg.model.head.in_channels = 256
        return demos.build(cfg).eval()

    return build
