"""An image or a video as a network gets it, with the inputs of its blocks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import nn

from ..datasets.decode import find_danger, time_limit
from ..errors import SetupError, UnreadableFileError, describe_error
from ..hosts import host_of
from ..insertion.frames import takes_frames
from .blocks import block_inputs


class Seen(NamedTuple):
    """What a network saw.

    Attributes:
        frames (ndarray): (T, H, W, 3) RGB, uint8, without padding.
        size (tuple[int, int]): (H, W) with padding.
        blocks (dict[str, Tensor]): Input of each block that ran, (B, C,
            \\*spatial); B counts the views, or the frames of a network of
            frames unless the block sees clips.
    """

    frames: np.ndarray
    size: tuple[int, int]
    blocks: dict[str, torch.Tensor]


def look(model: nn.Module, cfg, blocks: dict, data: dict) -> Seen:
    """Run one sample of a test pipeline through the network.

    Args:
        model (Module): A network of a host, in evaluation mode.
        cfg (Config): Its config.
        blocks (dict[str, Module]): Blocks of the model, by name.
        data (dict): The sample, as from :func:`load_sample`.

    Raises:
        SetupError: None of the blocks runs.
    """
    with torch.no_grad(), block_inputs(blocks) as inputs:
        batch = model.data_preprocessor(pseudo_collate([data]), False)
        model(**batch, mode='predict')
    if blocks and not inputs:
        raise SetupError(
            f'{", ".join(blocks)} does not run when this model predicts'
        )
    size = tuple(batch['inputs'].shape[-2:])
    frames = frames_of(cfg, data)
    views = [len(x) for x in inputs.values() if x.dim() == 5]
    if views and takes_frames(type(model)):
        frames = frames[: len(frames) // max(views)]
    return Seen(frames, size, inputs)


def dataset_config(cfg) -> dict:
    """Return the config of the test data, wrappers taken off; {} if none."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def load_sample(cfg, file: Path) -> dict:
    """Return what the config's test pipeline makes of an image or a video.

    Steps that load annotations are left out.

    Raises:
        SetupError: The config has no test pipeline, or no decoder is
            installed.
        UnreadableFileError: A step fails on the file.
    """
    host = host_of(cfg)
    steps = dataset_config(cfg).get('pipeline')
    if not steps:
        raise SetupError(
            f'{cfg.filename} has no test pipeline: give it a test_dataloader'
        )
    data = dict(img_path=str(file), img_id=0)
    if host == 'mmaction':
        data = dict(
            filename=str(file), label=-1, start_index=0, modality='RGB'
        )
    steps = [s for s in steps if 'Annotations' not in str(s['type'])]
    try:
        danger = find_danger(data)
        if danger:
            raise ValueError(danger)
        with DefaultScope.overwrite_default_scope(host), time_limit():
            data = Compose(steps)(data)
        if data is None:
            raise ValueError('the pipeline drops it')
        return data
    except SetupError:
        raise
    except Exception as error:  # each decoder has its own
        kind = 'a video' if host == 'mmaction' else 'an image'
        raise UnreadableFileError(
            f'{str(file)!r} cannot be read as {kind}, which this config '
            f'takes: {describe_error(error)}'
        ) from error


def frames_of(cfg, data: dict) -> np.ndarray:
    """Return the frames of a sample's first view.

    Args:
        cfg (Config): The config whose pipeline loaded the sample.
        data (dict): From :func:`load_sample`.

    Returns:
        ndarray: (T, H, W, 3) RGB, uint8; T is 1 for an image. Several views
        of a network of frames stand one behind the other.
    """
    frames = data['inputs']  # (3, H, W), (T, 3, H, W), (views, 3, T, H, W)
    if frames.dim() == 5:
        frames = frames[0].transpose(0, 1)
    elif frames.dim() == 3:
        frames = frames[None]
    if host_of(cfg) != 'mmaction':
        frames = frames.flip(1)  # images are decoded to BGR
    frames = frames.float().clamp(0, 255).round().byte()
    return frames.permute(0, 2, 3, 1).numpy()
