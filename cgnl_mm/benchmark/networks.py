"""Whole networks of tools/benchmark.py, with no, one and five blocks.

Models come from our configs and run through their hosts' own ``train_step``
and ``test_step``. A fresh block is the identity and the learning rate is
zero, so twins with the same weights do the same work outside of the blocks
(a detector proposes the same boxes).
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from cgnl_mm.hosts import HOME as ROOT
from cgnl_mm.hosts import require_host

from .timing import autocast

# residual units that blocks follow: Wang et al.'s and the author's layouts
LAYOUTS = {
    'no block': None,
    '1 block': ((), (), (-2,), ()),
    '5 blocks': ((), (1, 3), (1, 3, 5), ()),
}
PASSES = ('backbone forward', 'forward', 'training step')


@dataclass(frozen=True)
class Network:
    """A row.

    Attributes:
        name (str): Its header.
        config (str): Name of our config without blocks.
        batch (int): Images or clips.
        size (tuple[int, ...]): (H, W) or (T, H, W) of one.
        options (dict): Changes of the config.
    """

    name: str
    config: str
    batch: int
    size: tuple[int, ...]
    options: dict = field(default_factory=dict)


def networks(device: str, quick: bool) -> list[Network]:
    """The three hosts' networks at the usual sizes."""
    batches = (4, 1, 1) if device == 'cpu' else (32, 8, 2)
    sizes = (224, 224), (32, 224, 224), (800, 1344)
    options = {}, {}, {}
    if quick:
        batches = 2, 2, 1
        narrow = {'model.backbone.base_channels': 8}
        options = (
            {**narrow, 'model.head.in_channels': 256},
            {**narrow, 'model.cls_head.in_channels': 256},
            {
                **narrow,
                'model.neck.in_channels': [32, 64, 128, 256],
                # regions of interest, on which most of the time goes
                'model.train_cfg.rcnn.sampler.num': 16,
            },
        )
        sizes = (32, 32), (8, 32, 32), (64, 64)
    configs = 'r50_imagenet', 'i3d_r50_minikinetics', 'mask_rcnn_r50_fpn_coco'
    names = 'R-50', 'I3D-R50', 'Mask R-CNN R-50-FPN'
    return [
        Network(*values)
        for values in zip(names, configs, batches, sizes, options)
    ]


def build(
    network: Network,
    backend: str,
    device: str,
    memory_format: torch.memory_format,
) -> dict[str, nn.Module]:
    """Build the twins of a network, with the same weights.

    Args:
        network (Network): Which.
        backend (str): Of the blocks.
        device (str): Where to.
        memory_format (memory_format): Of the weights.

    Returns:
        dict[str, Module]: By the name of the layout.

    Raises:
        MissingHostError: The network's host is not installed.
    """
    # it lists every initialised parameter
    MMLogger.get_current_instance().setLevel('WARNING')
    models, state = {}, None
    rank = len(network.size)
    for name, after in LAYOUTS.items():
        cfg = Config.fromfile(ROOT / 'configs' / f'{network.config}.py')
        require_host(cfg.default_scope)
        cfg.merge_from_dict(network.options)
        if after:
            block = dict(type=f'CGNL{rank}d', groups=8, backend=backend)
            cfg.model.backbone.plugins = [dict(cfg=block, after_blocks=after)]
        registry = import_module(f'{cfg.default_scope}.registry').MODELS
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = registry.build(_without_weights(cfg.model))
            if state is None:
                model.init_weights()
                state = model.state_dict()
        model.load_state_dict(state, strict=False)
        # of the rank of the backbone: 3D, or 2D with the heads
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)[rank - 2]):
                module.to(memory_format=memory_format)
        models[name] = model.to(device)
    return models


def _without_weights(value):
    """Take the files to download out of a model's config."""
    if isinstance(value, dict):
        if (value.get('init_cfg') or {}).get('type') == 'Pretrained':
            value['init_cfg'] = None
        if 'pretrained' in value:
            value['pretrained'] = None
        for child in value.values():
            _without_weights(child)
    return value


def make_call(
    model: nn.Module,
    network: Network,
    kind: str,
    device: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> Callable[[], object]:
    """One of :data:`PASSES` over a made-up batch.

    Args:
        model (Module): One of :func:`build`.
        network (Network): What it is.
        kind (str): The pass.
        device (str): Where.
        dtype (dtype): Of mixed precision; float32 for none.
        memory_format (memory_format): Of a backbone's input. The hosts'
            steps make their own.
    """
    if kind == 'backbone forward':
        x = torch.randn(network.batch, 3, *network.size).to(
            device, memory_format=memory_format
        )

        def forward():
            model.eval()
            with torch.inference_mode(), autocast(device, dtype):
                return model.backbone(x)

        return forward

    batch = BATCHES[len(network.size), hasattr(model, 'roi_head')](network)
    if kind == 'forward':

        def predict():
            model.eval()
            with torch.inference_mode(), autocast(device, dtype):
                return model.test_step(batch)

        return predict

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    if dtype == torch.float32:
        wrapper = OptimWrapper(optimizer)
    elif device == 'cpu':
        wrapper = _CpuAmp(optimizer)
        wrapper.dtype = dtype
    else:
        name = str(dtype).rpartition('.')[2]
        wrapper = AmpOptimWrapper(optimizer=optimizer, dtype=name)

    def step():
        model.train()
        return model.train_step(batch, wrapper)

    return step


class _CpuAmp(OptimWrapper):
    """MMEngine's AmpOptimWrapper refuses to run on a CPU."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), autocast('cpu', self.dtype):
            yield


def _images(network: Network) -> dict:
    from mmpretrain.structures import DataSample

    inputs = torch.randint(0, 256, (network.batch, 3, *network.size))
    samples = [DataSample().set_gt_label(0) for _ in inputs]
    return dict(inputs=inputs.to(torch.uint8), data_samples=samples)


def _clips(network: Network) -> dict:
    from mmaction.structures import ActionDataSample

    inputs = torch.randint(0, 256, (network.batch, 1, 3, *network.size))
    samples = [ActionDataSample().set_gt_label(0) for _ in inputs]
    return dict(inputs=list(inputs.to(torch.uint8)), data_samples=samples)


def _scenes(network: Network) -> dict:
    """Ten objects an image, from mmdet's own tests."""
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(
        network.batch,
        (3, *network.size),
        num_items=[10] * network.batch,
        num_classes=80,
        with_mask=True,
    )
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    return batch


BATCHES = {(2, False): _images, (3, False): _clips, (2, True): _scenes}
