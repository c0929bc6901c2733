"""Count what a network runs, its inserted blocks apart."""

import math
from dataclasses import dataclass

import torch
from mmcv.cnn import ContextBlock, NonLocal1d, NonLocal2d, NonLocal3d
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cgnl_mm import CGNL1d, CGNL2d, CGNL3d
from cgnl_mm.deploy.model import random_pixels
from cgnl_mm.errors import SetupError

OURS = (CGNL1d, CGNL2d, CGNL3d)
BLOCKS = (*OURS, NonLocal1d, NonLocal2d, NonLocal3d, ContextBlock)


@dataclass
class Row:
    """A part of the network, or the whole.

    Attributes:
        name (str): Dotted name.
        kind (str): Type.
        params (int): Parameters.
        flops (int): FLOPs.
    """

    name: str
    kind: str
    params: int
    flops: int


@dataclass
class Block(Row):
    """An inserted block.

    Attributes:
        place (str): Stage and residual unit.
        shape (list[int]): Its input, (C, H, W) or (C, T, H, W).
        params_share (float): Of the network's, 0 to 1.
        flops_share (float): Of the network's, 0 to 1.
    """

    place: str
    shape: list[int]
    params_share: float
    flops_share: float


def find_blocks(model) -> dict:
    """Inserted blocks by their dotted names, in the network's order."""
    units = getattr(model.backbone, 'plugin_units', {})
    inserted = {f'backbone.{path}' for path in units}
    return {
        name: module
        for name, module in model.named_modules()
        if name in inserted or isinstance(module, BLOCKS)
    }


def count(model, call) -> tuple[dict, dict]:
    """Count what ``call`` runs of a network.

    Args:
        model (Module): The network.
        call (Callable): Runs it once.

    Returns:
        tuple[dict, dict]: FLOPs by the dotted names of modules ('' is the
        network), and the input shapes of its blocks by theirs.

    Raises:
        SetupError: With torch < 2.4.
    """
    if not hasattr(FlopCounterMode(display=False), 'mod_tracker'):
        raise SetupError(
            f'counting FLOPs needs torch >= 2.4, this is {torch.__version__}'
        )
    blocks = find_blocks(model)
    ours = {
        name: block
        for name, block in blocks.items()
        if isinstance(block, OURS)
    }
    whole = _Call(model, call)
    prefix = '_Call.model'
    inside = {f'{prefix}.{name}' for name in ours}

    def in_block(size):
        return size if inside & counter.mod_tracker.parents else 0

    def elementwise(*args, out_shape=None, **kwargs):
        return in_block(math.prod(out_shape))

    def reduction(shape, *args, out_shape=None, **kwargs):
        return in_block(math.prod(shape))

    aten = torch.ops.aten
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            aten.mul: elementwise,
            aten.add: elementwise,
            aten.sum: reduction,
        },
    )
    shapes, handles, backends = {}, [], {}
    heads = _region_heads(model)
    for name, block in (*blocks.items(), *heads.items()):

        def keep(module, args, name=name):
            shapes[name] = list(args[0].shape)

        handles.append(block.register_forward_pre_hook(keep))
    try:
        # the other paths compute the same in other operators
        for name, block in ours.items():
            backends[name], block.backend = block.backend, 'reference'
        with counter, torch.no_grad():
            whole()
    finally:
        for handle in handles:
            handle.remove()
        for name, backend in backends.items():
            ours[name].backend = backend
    flops = {
        name[len(prefix) :].lstrip('.'): sum(by_operator.values())
        for name, by_operator in counter.get_flop_counts().items()
        if name.startswith(prefix)
    }
    flops[''] = counter.get_total_flops()
    return flops, shapes


def _region_heads(model) -> dict:
    """Heads of a detector that run once for each region."""
    return {
        name: module
        for name, module in model.named_modules()
        if name in ('roi_head.bbox_head', 'roi_head.mask_head')
    }


def _flops(name: str, flops: dict) -> int:
    """Of a module, also if its owner calls its children one by one."""
    if name in flops:
        return flops[name]
    total, counted = 0, None
    for key in sorted(key for key in flops if key.startswith(f'{name}.')):
        if counted is None or not key.startswith(counted):
            total += flops[key]
            counted = f'{key}.'
    return total


class _Call(nn.Module):
    """Gives every module one dotted name, whichever method runs it."""

    def __init__(self, model, call) -> None:
        super().__init__()
        self.model = model
        self.call = call

    def forward(self):
        return self.call()


def make_call(model, host: str, shape: tuple[int, ...]):
    """One image or view through the network, without its post-processing.

    Args:
        model (Module): A network of ``host``.
        host (str): 'mmpretrain', 'mmaction' or 'mmdet'.
        shape (tuple[int, ...]): (H, W) or (T, H, W).
    """
    pixels = random_pixels(shape, batch=1)
    if host == 'mmpretrain':
        return lambda: model(pixels, mode='tensor')
    if host == 'mmaction':
        views = pixels[:, None]
        return lambda: model(views, mode='tensor', stage='head')
    from mmdet.structures import DetDataSample

    meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    batch = dict(inputs=[pixels[0]], data_samples=[sample])
    # padded to the multiple that the strides need
    batch = model.data_preprocessor(batch)
    return lambda: model(**batch, mode='tensor')


def measure(model, host: str, shape: tuple[int, ...]) -> dict:
    """All that the tool prints.

    Returns:
        dict: 'shape', 'network' (Row), 'parts' (list[Row]), 'blocks'
        (list[Block]); 'regions' (dict[str, int]), how often each head of a
        two-stage detector ran.
    """
    flops, shapes = count(model, make_call(model, host, shape))

    def row(name, module):
        params = sum(p.numel() for p in module.parameters())
        return name, type(module).__name__, params, _flops(name, flops)

    network = Row(*row('', model))
    parts = [
        Row(*row(name, child))
        for name, child in model.named_children()
        if any(True for _ in child.parameters())
    ]
    units = getattr(model.backbone, 'plugin_units', {})
    blocks = []
    for name, module in find_blocks(model).items():
        path = name.removeprefix('backbone.')
        stage = path.split('.')[0]
        place = path
        if path in units:
            place = f'{stage}, after unit {units[path]}'
        values = row(name, module)
        blocks.append(
            Block(
                *values,
                place=place,
                shape=shapes[name][1:],
                params_share=values[2] / network.params,
                flops_share=values[3] / network.flops,
            )
        )
    regions = {name: shapes[name][0] for name in _region_heads(model)}
    return dict(
        shape=shape,
        network=network,
        parts=parts,
        blocks=blocks,
        regions=regions,
    )
