"""An image or a video as a network gets it, with the inputs of its blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import nn

from ..errors import SetupError, UnreadableFileError
from ..hosts import host_of
from .blocks import block_inputs


@dataclass
class Seen:
    """What a network saw.

    Attributes:
        frames (ndarray): (T, H, W, 3) RGB, uint8, without padding.
        size (tuple[int, int]): (H, W) with padding.
        blocks (dict[str, Tensor]): Input of each block, (B, C, \\*spatial);
            B counts the views, or the frames of a network of frames.
    """

    frames: np.ndarray
    size: tuple[int, int]
    blocks: dict[str, torch.Tensor]

    def input_of(self, name: str) -> torch.Tensor:
        """Return the input of a block.

        Raises:
            SetupError: The block did not run.
        """
        if name not in self.blocks:
            raise SetupError(f'{name} does not run when this model predicts')
        return self.blocks[name]


def look(model: nn.Module, cfg, blocks: dict, file: Path) -> Seen:
    """Run one file through the config's test pipeline and the network.

    Args:
        model (Module): A network of a host, in evaluation mode.
        cfg (Config): Its config.
        blocks (dict[str, Module]): Blocks of the model, by name.
        file (Path): An image or a video.

    Raises:
        UnreadableFileError: The file cannot be decoded.
    """
    data = load_sample(cfg, file)
    with torch.no_grad(), block_inputs(blocks) as inputs:
        batch = model.data_preprocessor(pseudo_collate([data]), False)
        model(**batch, mode='predict')
    size = tuple(batch['inputs'].shape[-2:])
    return Seen(frames_of(cfg, data), size, inputs)


def follow(cfg, file: Path, point: tuple[int, ...]) -> tuple[int, int]:
    """Find a pixel of a file in what the network gets.

    Coordinates go through the pipeline in place of the pixels, so that any
    resize, crop or flip is followed.

    Args:
        cfg (Config): A config.
        file (Path): An image or a video.
        point (tuple[int, ...]): x and y in the file; the rest is not read.

    Returns:
        tuple[int, int]: x and y in the first view.

    Raises:
        SetupError: The pixel is outside of the file or was cropped away, or
            the pipeline does not let coordinates through.
    """
    name = f'--point {",".join(map(str, point))}'
    x, y = point[:2]
    width = height = 0
    try:
        for data in run_pipeline(cfg, file):
            if not width and ('img' in data or 'imgs' in data):
                height, width = _put_coordinates(data)
    except SetupError as error:
        if not width:
            raise
        raise SetupError(
            f'{name} cannot be followed through this pipeline: '
            f'{error.__cause__}. Without --point, the middle is taken'
        ) from error
    if not (0 <= x < width and 0 <= y < height):
        raise SetupError(
            f'{name} is outside: {file} has {width} x {height} pixels (x 0 '
            f'to {width - 1}, y 0 to {height - 1})'
        )
    across, down = _as_frames(data['inputs'])[0, :2].double().numpy()
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


def _put_coordinates(data: dict) -> tuple[int, int]:
    """Replace the pixels of a sample by (x, y, 0); return their (H, W)."""
    key = 'img' if 'img' in data else 'imgs'
    image = data['img'] if key == 'img' else data['imgs'][0]
    rows, columns = np.indices(image.shape[:2], np.float32)
    places = np.stack([columns, rows, np.zeros_like(rows)], -1)
    data[key] = places if key == 'img' else [places] * len(data['imgs'])
    return image.shape[:2]


def dataset_config(cfg) -> dict:
    """Return the config of the test data, wrappers taken off; {} if none."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def run_pipeline(cfg, file: Path) -> Iterator[dict]:
    """Yield a file's sample after each step of the config's test pipeline.

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
    try:
        with DefaultScope.overwrite_default_scope(host):
            for step in Compose(
                [s for s in steps if 'Annotations' not in str(s['type'])]
            ).transforms:
                data = step(data)
                yield data
    except SetupError:
        raise
    except Exception as error:  # each decoder has its own
        kind = 'a video' if host == 'mmaction' else 'an image'
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise UnreadableFileError(
            f'{str(file)!r} cannot be read as {kind}, which this config '
            f'takes: {reason}'
        ) from error


def load_sample(cfg, file: Path) -> dict:
    """Return what the config's test pipeline makes of an image or a video.

    Raises:
        SetupError: As :func:`run_pipeline`.
    """
    *_, data = run_pipeline(cfg, file)
    return data


def frames_of(cfg, data: dict) -> np.ndarray:
    """Return the frames of a sample's first view.

    Args:
        cfg (Config): The config whose pipeline loaded the sample.
        data (dict): From :func:`load_sample`.

    Returns:
        ndarray: (T, H, W, 3) RGB, uint8; T is 1 for an image.
    """
    frames = _as_frames(data['inputs'])
    if host_of(cfg) != 'mmaction':
        frames = frames.flip(1)  # images are decoded to BGR
    frames = frames.float().clamp(0, 255).round().byte()
    return frames.permute(0, 2, 3, 1).numpy()


def _as_frames(inputs: torch.Tensor) -> torch.Tensor:
    """Return (T, 3, H, W) of (3, H, W), (T, 3, H, W) or (views, 3, T, H, W).

    Several views of a network of frames stand one behind the other.
    """
    if inputs.dim() == 5:
        return inputs[0].transpose(0, 1)
    return inputs[None] if inputs.dim() == 3 else inputs
