"""Measure a training step of whole networks with five blocks."""

from collections.abc import Callable
from importlib import import_module

import torch
from mmengine.config import Config

from ..blocks.paths import PATHS
from ..deploy.model import build_model, random_pixels
from ..hosts import HOME, require_host
from ..insertion import insert_after
from . import forms
from .forms import Case, Settings
from .timing import measure, noting_failure

# Residual units that blocks follow: the layout of Wang et al.
PLACES = 'layer2.1', 'layer2.3', 'layer3.1', 'layer3.3', 'layer3.5'
NO_BLOCK = 'no block'
CONFIGS = dict(r50='r50_imagenet', i3d_r50='i3d_r50_minikinetics')


def measure_network(network: Case, settings: Settings) -> list[dict]:
    """Measure a training step of a network without and with blocks."""
    calls, failed = {}, {}
    for name in (NO_BLOCK, *forms.choose_forms(network, settings)):
        if name.removeprefix('cgnl ') not in PATHS:
            with noting_failure(failed, name):
                calls[name] = make_step(network, name, settings)
    return measure('training step', calls, failed, settings)


def make_step(
    network: Case, form: str, settings: Settings
) -> Callable[[], object]:
    """Build a network with blocks, and make the call of a training step.

    Args:
        network (Case): Name, batch and size of its input.
        form (str): A form of the block, or :data:`NO_BLOCK`.
        settings (Settings): Device, and type of mixed precision.

    Raises:
        MissingHostError: The network's host is not installed.
    """
    cfg = Config.fromfile(HOME / f'configs/{CONFIGS[network.name]}.py')
    require_host(cfg.default_scope)
    is_video = cfg.default_scope == 'mmaction'
    base = 64
    if settings.quick:
        base = cfg.model.backbone.base_channels = 8
        head = cfg.model['cls_head' if is_video else 'head']
        head.in_channels = 32 * base
    torch.manual_seed(0)
    model, blocks = build_model(cfg, None), []
    for place in () if form == NO_BLOCK else PLACES:
        channels = base * (8 if place < 'layer3' else 16)
        block = forms.FORMS[form](Case('', 1, channels, network.size))
        insert_after(model.backbone, place, block)
        blocks.append(block)
    model.to(settings.device).train()
    if form == forms.COMPILED:
        forms.compile_blocks(*blocks)
    structures = import_module(f'{cfg.default_scope}.structures')
    kind = structures.ActionDataSample if is_video else structures.DataSample
    label = kind().set_gt_label(0).to(settings.device)
    x = random_pixels(network.size, network.batch).to(settings.device) / 255
    x = x[:, None] if is_video else x
    # A rate of zero: no step changes what the next one computes.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        with settings.autocast(settings.device):
            losses = model(x, [label] * network.batch, mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
