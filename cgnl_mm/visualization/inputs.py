"""An image or a video as a network gets it, with the inputs of its blocks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

from cgnl_mm.errors import SetupError
from cgnl_mm.visualization import BlockInputs


@dataclass
class Seen:
    """What the network saw.

    Attributes:
        frames (ndarray): (T, H, W, 3) RGB, uint8, without padding.
        size (tuple[int, int]): (H, W) with padding.
        blocks (dict[str, Tensor]): Input of each block, (B, C, \\*spatial);
            B counts the views, or the frames of a network of frames.
    """

    frames: np.ndarray
    size: tuple[int, int]
    blocks: dict[str, torch.Tensor]


def look(model, cfg, blocks, file: Path) -> Seen:
    """Run one file through the config's test pipeline and the network.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        blocks (dict[str, Module]): Blocks of the model.
        file (Path): Image or video.

    Raises:
        SetupError: The file cannot be decoded.
    """
    init_default_scope(cfg.default_scope)
    data = _load(cfg, file)
    kept = []
    handle = model.data_preprocessor.register_forward_hook(
        lambda _, args, out: kept.append(out)
    )
    try:
        with torch.no_grad(), BlockInputs(blocks) as inputs:
            model.test_step(pseudo_collate([data]))
    finally:
        handle.remove()
    tensor = kept[0]['inputs']
    is_video = cfg.default_scope == 'mmaction'
    if is_video:
        tensor = tensor[0]  # the batch of one; views or frames stay
    samples = kept[0].get('data_samples')
    frames = _pixels(model.data_preprocessor, tensor, is_video)
    size = frames.shape[1:3]
    if cfg.default_scope == 'mmdet' and samples:
        height, width = samples[0].img_shape[:2]
        frames = frames[:, :height, :width]
    return Seen(frames, size, inputs)


def follow(cfg, file: Path, point: 'tuple[int, ...]') -> tuple[int, int]:
    """Where a pixel of the file is in what the network gets.

    Coordinates go through the pipeline in place of the pixels, so that any
    resize, crop or flip is followed.

    Args:
        cfg (Config): A config.
        file (Path): Image or video.
        point (tuple[int, ...]): x and y in the file; more is not read.

    Returns:
        tuple[int, int]: x and y in the first view.

    Raises:
        SetupError: It is outside, or was cropped away, or the pipeline does
            not let coordinates through.
    """
    name = f'--point {",".join(map(str, point))}'
    x, y = point[:2]
    sizes = []

    def replace(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        sizes.append((width, height))
        rows, columns = np.indices((height, width), np.float32)
        return np.stack([columns, rows, np.zeros_like(rows)], -1)

    try:
        places = _load(cfg, file, replace)['inputs']
    except SetupError as error:
        if not sizes:  # it is the file
            raise
        raise SetupError(
            f'{name} cannot be followed through this pipeline: '
            f'{error.__cause__}. Without --point, the middle is taken'
        ) from error
    if not sizes:
        raise SetupError(
            f'{name} cannot be followed: this pipeline loads neither img nor '
            'imgs. Without --point, the middle is taken'
        )
    width, height = sizes[0]
    if not (0 <= x < width and 0 <= y < height):
        raise SetupError(
            f'{name} is outside: {file} has {width} x {height} pixels (x 0 '
            f'to {width - 1}, y 0 to {height - 1})'
        )
    if places.dim() == 5:  # (views, 3, T, H, W)
        places = places[:, :, 0]
    if places.dim() == 4:
        places = places[0]
    across, down = places[:2].double().numpy()
    row, column = np.unravel_index(
        ((across - x) ** 2 + (down - y) ** 2).argmin(), across.shape
    )
    # neighbours are as far apart as the resize made them
    for value, axis, at in ((x, across, 1), (y, down, 0)):
        step = np.abs(np.diff(axis, axis=at)).max(initial=1.0)
        if abs(axis[row, column] - value) > step:
            raise SetupError(
                f'{name} is cropped away by the pipeline: the network gets x '
                f'{across.min():.0f} to {across.max():.0f}, y '
                f'{down.min():.0f} to {down.max():.0f} of the {width} x '
                f'{height} pixels'
            )
    return int(column), int(row)


def _run(steps: list, data: dict, replace) -> dict:
    """The pipeline, with other pixels from where they are loaded on."""
    for step in Compose(steps).transforms:
        data = step(data)
        if replace is None:
            continue
        if isinstance(data.get('img'), np.ndarray):
            data['img'] = replace(data['img'])
            replace = None
        elif 'imgs' in data:
            data['imgs'] = [replace(frame) for frame in data['imgs']]
            replace = None
    return data


def _load(cfg, file: Path, replace=None) -> dict:
    """One sample of the test pipeline, without its annotations."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None:
        raise SetupError('the config has no test_dataloader: no test pipeline')
    dataset = loader.dataset
    while 'dataset' in dataset:  # wrappers
        dataset = dataset.dataset
    steps = [
        step
        for step in dataset.pipeline
        if 'Annotations' not in str(step['type'])
    ]
    if cfg.default_scope == 'mmaction':
        data = dict(
            filename=str(file), label=-1, start_index=0, modality='RGB'
        )
    else:
        data = dict(img_path=str(file), img_id=0)
    try:
        return _run(steps, data, replace)
    except SetupError:  # no decoder is installed
        raise
    except Exception as error:  # each decoder has its own
        kind = 'video' if cfg.default_scope == 'mmaction' else 'image'
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise SetupError(
            f'{str(file)!r} cannot be read as {kind}, which this config '
            f'takes: {reason}'
        ) from error


def _pixels(preprocessor, tensor: torch.Tensor, is_rgb: bool) -> np.ndarray:
    """Undo the normalisation: (T, H, W, 3) RGB, uint8, of the first view.

    Args:
        preprocessor (Module): The one that made ``tensor``.
        tensor (Tensor): (views, 3, T, H, W) or (T, 3, H, W).
        is_rgb (bool): Whether the pipeline loads RGB, as that of videos does.
    """
    if tensor.dim() == 5:
        tensor = tensor[0].transpose(0, 1)  # (T, 3, H, W)
    tensor = tensor.float().cpu()
    if getattr(preprocessor, 'mean', None) is not None:
        std = preprocessor.std.cpu().view(-1, 1, 1)
        tensor = tensor * std + preprocessor.mean.cpu().view(-1, 1, 1)
    swapped = getattr(preprocessor, 'to_rgb', False) or getattr(
        preprocessor, '_channel_conversion', False
    )
    if not is_rgb and not swapped:
        tensor = tensor.flip(1)
    return tensor.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
