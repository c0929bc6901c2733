"""The network of a config, with or without weights, and its input's size."""

import inspect
from importlib import import_module

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from ..checkpoints import require_file, require_whole
from ..errors import SetupError

HOSTS = ('mmpretrain', 'mmaction', 'mmdet')
CROPS = ('CenterCrop', 'ThreeCrop', 'TenCrop', 'RandomCrop')


def build_model(cfg, checkpoint: str | None) -> nn.Module:
    """Build the network in evaluation mode, on the CPU.

    Args:
        cfg (Config): What :func:`cgnl_mm.cli.load_config` returned.
        checkpoint (str | None): Path or URL; None: fresh weights, and none of
            those that the config would download.

    Raises:
        SetupError: The config is of another host; or the checkpoint is not
            there, or is of another network.
    """
    # it lists every initialised parameter
    MMLogger.get_current_instance().setLevel('WARNING')
    host = cfg.get('default_scope')
    if host not in HOSTS:
        raise SetupError(
            f'{cfg.filename}: default_scope={host!r}, but this tool takes '
            f'networks of {", ".join(HOSTS)} alone'
        )
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        model = registry.build(without_weights(cfg.model))
        if checkpoint is None:
            model.init_weights()
        else:
            require_file(checkpoint, 'checkpoint')
            require_whole(checkpoint)
            _load(model, checkpoint)
    return model.eval()


def move_to_device(model: nn.Module, name: str | None) -> nn.Module:
    """Move the network to a device; None: a GPU if there is one.

    Raises:
        SetupError: There is no such device.
    """
    from mmengine.device import get_device

    try:
        return model.to(name or get_device())
    except (RuntimeError, AssertionError) as error:  # PyTorch has both
        reason = str(error).splitlines()[0]
        raise SetupError(f'--device {name}: {reason}') from error


def _load(model: nn.Module, checkpoint: str) -> None:
    try:
        load_checkpoint(
            model,
            checkpoint,
            map_location='cpu',
            # a block that is missing, on either side, is no detail
            strict=True,
            logger='silent',
        )
    except RuntimeError as error:
        text = ' '.join(str(error).split())
        raise SetupError(
            f'{checkpoint} does not fit this config: {text[:600]}'
        ) from error


def without_weights(value):
    """Take the files to download out of a model's config."""
    if isinstance(value, dict):
        if (value.get('init_cfg') or {}).get('type') == 'Pretrained':
            value['init_cfg'] = None
        if 'pretrained' in value:
            value['pretrained'] = None
        for child in value.values():
            without_weights(child)
    return value


def input_shape(cfg, given: list[int] | None) -> tuple[int, ...]:
    """Size of one image (H, W) or clip (T, H, W), as the network gets it.

    Args:
        cfg (Config): Its test pipeline is searched where nothing is given:
            the last crop or resize, else the size that the data set makes.
        given (list[int] | None): From ``--shape``.

    Raises:
        SetupError: A wrong number of axes, or no size to be found.
    """
    rank = spatial_rank(cfg)
    axes = 'THW'[3 - rank :]
    if given is not None:
        if len(given) != rank or min(given) < 1:
            raise SetupError(
                f'--shape takes {" ".join(axes)} for this network, got '
                f'{" ".join(map(str, given))}'
            )
        return tuple(given)
    size, frames = _size_of_tests(cfg)
    if size is None or (rank == 3 and frames is None):
        raise SetupError(
            "the config's test pipeline tells no size: give --shape "
            f'{" ".join(axes)}'
        )
    return (frames, *size) if rank == 3 else size


def spatial_rank(cfg) -> int:
    """2 for networks of images (or frames), 3 for those of clips."""
    return 3 if '3D' in str(cfg.model.type) else 2


def _size_of_tests(cfg):
    """(H, W) and number of frames in the test pipeline; None if not told."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    size = frames = None
    for transform in dataset.get('pipeline') or ():
        kind = str(transform.get('type')).split('.')[-1]
        if kind.endswith('SampleFrames'):
            frames = transform.get('clip_len')
        elif kind in CROPS and 'crop_size' in transform:
            size = transform['crop_size']
        elif kind == 'Resize' and 'scale' in transform:
            # (W, H), or (-1, short side)
            scale = transform['scale']
            if isinstance(scale, int):
                scale = (scale, scale)
            size = tuple(scale)[::-1] if -1 not in scale else None
    if size is None:
        size = _size_of_dataset(cfg, dataset)
    if isinstance(size, int):
        size = (size, size)
    return None if size is None else tuple(size), frames


def _size_of_dataset(cfg, dataset):
    """``size`` of one of our data sets, given or by default."""
    if 'size' in dataset:
        return dataset['size']
    registry = import_module(f'{cfg.default_scope}.registry').DATASETS
    kind = registry.get(dataset.get('type', ''))
    if kind is None:
        return None
    parameter = inspect.signature(kind).parameters.get('size')
    return None if parameter is None else parameter.default


def random_pixels(
    shape: tuple[int, ...], batch: int, seed: int = 0
) -> torch.Tensor:
    """RGB values 0 to 255, (B, 3, \\*shape), float32."""
    generator = torch.Generator().manual_seed(seed)
    size = (batch, 3, *shape)
    return torch.randint(0, 256, size, generator=generator).float()
