"""Build whole networks with no, one and five blocks, and their calls.

The models come from our configs and run through their hosts' own
``train_step`` and ``test_step``. A fresh block is the identity and the
learning rate is zero, so twins with the same weights do the same work outside
the blocks: a detector proposes the same boxes.
"""

import copy
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from ..deploy.model import build_model, random_pixels
from ..hosts import HOME, require_host
from .settings import Settings

# Residual units that blocks follow: the layouts of Wang et al. and of the
# author of CGNL.
LAYOUTS = {
    'no block': None,
    '1 block': ((), (), (-2,), ()),
    '5 blocks': ((), (1, 3), (1, 3, 5), ()),
}
PASSES = ('backbone forward', 'forward', 'training step')
# Classes of a host's data samples.
SAMPLES = dict(mmpretrain='DataSample', mmaction='ActionDataSample')
# Changes of the configs that make the networks tiny.
NARROW = {'model.backbone.base_channels': 8}
QUICK = (
    {**NARROW, 'model.head.in_channels': 256},
    {**NARROW, 'model.cls_head.in_channels': 256},
    {
        **NARROW,
        'model.neck.in_channels': [32, 64, 128, 256],
        # Most of the time goes on the regions of interest.
        'model.train_cfg.rcnn.sampler.num': 16,
    },
)


@dataclass(frozen=True)
class Network:
    """Hold one row of the table.

    Attributes:
        name (str): Header of the row.
        config (str): Name of our config without blocks.
        batch (int): Number of images or clips.
        size (tuple[int, ...]): (H, W) or (T, H, W) of one of them.
        small (dict): Changes of the config that make the network tiny.
    """

    name: str
    config: str
    batch: int
    size: tuple[int, ...]
    small: dict

    def columns(self) -> dict:
        """Return what a record says about its input."""
        size = 'x'.join(map(str, self.size))
        return dict(case=self.name, batch=self.batch, size=size)


def networks(device: str, quick: bool) -> list[Network]:
    """List the networks of three hosts at their usual sizes."""
    names = 'R-50', 'I3D-R50', 'Mask R-CNN R-50-FPN'
    configs = 'r50_imagenet', 'i3d_r50_minikinetics', 'mask_rcnn_r50_fpn_coco'
    batches = (4, 1, 1) if device == 'cpu' else (32, 8, 2)
    sizes = (224, 224), (32, 224, 224), (800, 1344)
    small = {}, {}, {}
    if quick:
        batches, sizes = (2, 2, 1), ((32, 32), (8, 32, 32), (64, 64))
        small = QUICK
    return list(map(Network, names, configs, batches, sizes, small))


@cache
def read_config(name: str) -> Config:
    """Read one of our configs; looking its bases up takes a second."""
    return Config.fromfile(HOME / 'configs' / f'{name}.py')


def build(network: Network, layout: str, settings: Settings) -> nn.Module:
    """Build one of a network's twins, which have the same weights.

    Raises:
        MissingHostError: The network's host is not installed.
    """
    rank = len(network.size)
    cfg = copy.deepcopy(read_config(network.config))
    require_host(cfg.default_scope)
    cfg.merge_from_dict(network.small)
    if LAYOUTS[layout]:
        block = dict(type=f'CGNL{rank}d', groups=8, backend=settings.backend)
        cfg.model.backbone.plugins = [
            dict(cfg=block, after_blocks=LAYOUTS[layout])
        ]
    # A block draws from a random state of its own.
    torch.manual_seed(0)
    model = build_model(cfg, None)
    # The backbone has 3D layers, or 2D layers as the heads have.
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)[rank - 2]):
            module.to(memory_format=settings.memory_format(rank))
    return model.to(settings.device)


def make_calls(
    network: Network, layout: str, settings: Settings
) -> dict[str, Callable[[], object]]:
    """Make the call of each pass of a twin; a step lays out its own input.

    Args:
        network (Network): Which network.
        layout (str): Which of :data:`LAYOUTS`.
        settings (Settings): Path of the blocks, device, type and layout.
    """
    model = build(network, layout, settings)
    batch = make_batch(network, model)
    x = random_pixels(network.size, network.batch).to(
        settings.device,
        memory_format=settings.memory_format(len(network.size)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    if settings.device == 'cpu' or settings.dtype == 'float32':
        wrapper = MixedPrecision(settings, optimizer)
    else:
        wrapper = AmpOptimWrapper(optimizer=optimizer, dtype=settings.dtype)

    def infer(function, data):
        model.eval()
        with torch.inference_mode(), settings.autocast():
            return function(data)

    def step():
        model.train()
        return model.train_step(batch, wrapper)

    return {
        'backbone forward': partial(infer, model.backbone, x),
        'forward': partial(infer, model.test_step, batch),
        'training step': step,
    }


class MixedPrecision(OptimWrapper):
    """Run forward passes under autocast; AmpOptimWrapper refuses a CPU."""

    def __init__(self, settings: Settings, optimizer) -> None:
        super().__init__(optimizer)
        self.settings = settings

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), self.settings.autocast():
            yield


def make_batch(network: Network, model: nn.Module) -> dict:
    """Make up a batch as the data loader of the model's host would."""
    shape, host = (3, *network.size), type(model).__module__.split('.')[0]
    if host == 'mmdet':
        # Imported here, as the host is optional.
        from mmdet.testing import demo_mm_inputs

        objects = [10] * network.batch
        batch = demo_mm_inputs(
            network.batch, shape, objects, num_classes=80, with_mask=True
        )
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
        return batch
    pixels = random_pixels(network.size, network.batch).byte()
    inputs = pixels if host == 'mmpretrain' else list(pixels[:, None])
    kind = getattr(import_module(f'{host}.structures'), SAMPLES[host])
    samples = [kind().set_gt_label(0) for _ in range(network.batch)]
    return dict(inputs=inputs, data_samples=samples)
