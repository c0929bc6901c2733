"""The network of a config, with or without weights, and its input."""

import inspect
import sys

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from ..checkpoints import dataset_meta, require_whole
from ..errors import SetupError
from ..hosts import dataset_class, host_of
from ..insertion.frames import takes_frames
from ..visualization.inputs import dataset_config

PRETRAINED = ('Pretrained', 'PretrainedInit')


def build_model(cfg, checkpoint: str | None) -> nn.Module:
    """Build the network of a config as MMEngine's Runner does, on the CPU.

    Args:
        cfg (Config): What :func:`cgnl_mm.cli.load_config` returned.
        checkpoint (str | None): Path or URL; None: fresh weights, and none of
            those that the config would download.

    Returns:
        Module: In evaluation mode. Its ``dataset_meta`` (dict) is that of the
        checkpoint or, where that has no classes, that of the test data.

    Raises:
        SetupError: The config has no model; or the checkpoint does not exist,
            is damaged or is of another network.
    """
    # it lists every initialised parameter
    MMLogger.get_current_instance().setLevel('WARNING')
    if cfg.get('model') is None:
        raise SetupError(f'{cfg.filename} has no `model`: nothing to build')
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(host_of(cfg)):
        model = MODELS.build(without_weights(cfg.model))
        if checkpoint is None:
            for module in model.modules():
                # mmaction's ResNetTSM would inflate weights that are left out
                if hasattr(module, 'pretrained2d'):
                    module.pretrained2d = False
            model.init_weights()
            loaded = {}
        else:
            loaded = _load(model, checkpoint)
            # infinity may be a mask
            bad = [k for k, x in model.state_dict().items() if x.isnan().any()]
            if bad:
                text = f'{len(bad)} weights are NaN, such as {bad[0]}'
                print(f'warning: {checkpoint}: {text}', file=sys.stderr)
    meta = dataset_meta(loaded)
    model.dataset_meta = meta if meta.get('classes') else _dataset_meta(cfg)
    return model.eval()


def _load(model: nn.Module, checkpoint: str) -> dict:
    require_whole(checkpoint, 'checkpoint')
    try:
        return load_checkpoint(
            model,
            checkpoint,
            map_location='cpu',
            # a network without the block must not load weights with it
            strict=True,
            logger='silent',
        )
    except RuntimeError as error:
        text = ' '.join(str(error).split())
        raise SetupError(
            f'{checkpoint} does not fit this config: {text[:600]}'
        ) from error


def _dataset_meta(cfg) -> dict:
    dataset = dataset_config(cfg)
    kind, given = dataset_class(cfg, dataset), dataset.get('metainfo') or {}
    return {**getattr(kind, 'METAINFO', {}), **given}


def without_weights(value):
    """Remove the weights to download from a model's config, in place."""
    if isinstance(value, (list, tuple)):
        for child in value:
            without_weights(child)
    elif isinstance(value, dict):
        init = value.get('init_cfg')
        if isinstance(init, (list, tuple)):
            value['init_cfg'] = [c for c in init if not _is_pretrained(c)]
        elif _is_pretrained(init):
            value['init_cfg'] = None
        if 'pretrained' in value:
            value['pretrained'] = None
        without_weights(list(value.values()))
    return value


def _is_pretrained(init: dict | None) -> bool:
    kind = init['type'] if init else None
    return getattr(kind, '__name__', kind) in PRETRAINED


def move_to_device(model: nn.Module, name: str | None) -> nn.Module:
    """Move the network to a device; None: a GPU if there is one.

    Raises:
        SetupError: There is no such device.
    """
    try:
        return model.to(name or get_device())
    except (RuntimeError, AssertionError) as error:  # PyTorch has both
        reason = str(error).splitlines()[0]
        raise SetupError(f'--device {name}: {reason}') from error


def input_shape(cfg, given: list[int] | None) -> tuple[int, ...]:
    """Return the size of one image (H, W) or clip (T, H, W) of a network.

    Args:
        cfg (Config): Its test pipeline is searched where nothing is given:
            the last crop or resize, else the size that the data set makes,
            and the frames of one clip, or of all segments of a video.
        given (list[int] | None): From ``--shape``.

    Raises:
        SetupError: A wrong number of axes, or no size to be found.
    """
    axes = 'T H W' if host_of(cfg) == 'mmaction' else 'H W'
    if given is not None:
        if len(given) != len(axes.split()) or min(given) < 1:
            raise SetupError(
                f'--shape takes {axes} for this network, got '
                f'{" ".join(map(str, given))}'
            )
        return tuple(given)
    size, frames = _size_of_tests(cfg)
    if size is None or (axes == 'T H W' and frames is None):
        raise SetupError(
            f"the config's test pipeline tells no size: give --shape {axes}"
        )
    return size if axes == 'H W' else (frames, *size)


def _size_of_tests(cfg):
    """Find (H, W) and the number of frames in the test pipeline, or None."""
    size = frames = None
    of_frames = takes_frames(cfg.model.type)
    for step in dataset_config(cfg).get('pipeline') or ():
        kind = getattr(step['type'], '__name__', step['type'])
        if 'clip_len' in step:
            clips = step.get('num_clips', 1) if of_frames else 1
            frames = step['clip_len'] * clips
        elif 'crop_size' in step:
            size = step['crop_size']
        elif kind.endswith('Resize') and 'scale' in step:
            # (W, H), or (-1, short side)
            scale = _pair(step['scale'])
            size = None if -1 in scale else scale[::-1]
    if size is None:
        size = _size_of_dataset(cfg)
    return size and _pair(size), frames


def _pair(size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _size_of_dataset(cfg):
    """Return ``size`` of one of our data sets, given or by default."""
    kind = dataset_class(cfg, dataset_config(cfg))
    parameters = inspect.signature(kind).parameters if kind else {}
    default = parameters['size'].default if 'size' in parameters else None
    return dataset_config(cfg).get('size', default)


def as_views(clips: Tensor, frames: bool) -> Tensor:
    """Give clips (B, 3, T, H, W) the axes that a recogniser takes.

    Args:
        clips (Tensor): The clips.
        frames (bool): Whether the network :func:`takes_frames`.

    Returns:
        Tensor: (B, 1, 3, T, H, W), or (B, T, 3, H, W) of frames.
    """
    return clips.transpose(1, 2).contiguous() if frames else clips[:, None]


def random_pixels(
    shape: tuple[int, ...], batch: int, seed: int = 0
) -> torch.Tensor:
    """Return RGB values 0 to 255, (B, 3, \\*shape), float32."""
    generator = torch.Generator().manual_seed(seed)
    size = (batch, 3, *shape)
    return torch.randint(0, 256, size, generator=generator).float()
