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


def _load(cfg, file: Path) -> dict:
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
        return Compose(steps)(data)
    except SetupError:  # no decoder is installed
        raise
    except Exception as error:  # each decoder has its own
        kind = 'video' if cfg.default_scope == 'mmaction' else 'image'
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise SetupError(
            f'{str(file)!r} cannot be read as {kind}, which this config '
            f'takes: {reason}'
        ) from error


def _pixels(
    preprocessor, tensor: torch.Tensor, is_rgb: bool
) -> np.ndarray:
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
