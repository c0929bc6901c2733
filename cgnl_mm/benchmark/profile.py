"""Time the parts of a training step of a video config."""

import copy
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from torch.utils.benchmark import timer

from ..deploy.model import build_model
from .settings import require_device

PARTS = ('transfer, normalisation', 'forward', 'backward', 'optimizer')


def profile_training(cfg, options: Namespace) -> str:
    """Time decoder, transforms and network on generated clips.

    Args:
        cfg (Config): Config of an mmaction2 recogniser.
        options (Namespace): Options of ``tools/profile_training.py``.

    Returns:
        str: Two tables, and how many workers feed the network.

    Raises:
        SetupError: If the device is not there.
    """
    require_device(options.device)
    batch = options.batch or cfg.train_dataloader.batch_size
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), options)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        torch.set_num_threads(1)
        clip, samples = time_pipeline(cfg, paths, options.rounds)
        torch.set_num_threads(threads)
    samples = [samples[i % len(samples)] for i in range(batch)]
    step = time_network(cfg, pseudo_collate(samples), options)
    worker, network = clip.sum(), step.sum() / batch
    return '\n\n'.join([
        f'{cfg.filename}, {options.clips} clips of {options.seconds:g} s, '
        f'{"x".join(map(str, options.size))}, {options.fps} frames/s, '
        f'{size / 1e6:.2f} MB; torch {torch.__version__}, {options.device}, '
        f'{threads} threads, {options.amp or "float32"}'
        + ', channels-last' * options.channels_last,
        as_table('a clip, one core', clip),
        as_table(f'a step of {batch} clips', step),
        f'the network takes {network:.1f} ms a clip, a worker '
        f'{worker:.1f} ms: {worker / network:.1f} workers feed it',
    ])  # fmt: skip


def write_clips(folder: Path, options: Namespace) -> list[Path]:
    """Write moving, noisy textures; about 0.6 Mbit/s at 340x256.

    Args:
        folder (Path): Folder of the files.
        options (Namespace): ``clips``, ``seconds``, ``fps``, ``size``.

    Returns:
        list[Path]: Files of the type mp4 (H.264, yuv420p, CRF 23).
    """
    # Imported here, as both are optional.
    import av
    from scipy.ndimage import gaussian_filter

    width, height = options.size
    paths, grain = [], (height, width, 1)
    for number in range(options.clips):
        rng = np.random.default_rng(number)
        noise = rng.standard_normal((2 * height, 2 * width, 3))
        texture = gaussian_filter(noise, (3, 3, 0), mode='wrap')
        texture -= texture.min()
        texture *= 255 / texture.max()
        paths.append(folder / f'{number}.mp4')
        with av.open(str(paths[-1]), 'w') as container:
            stream = container.add_stream('libx264', rate=options.fps)
            stream.width, stream.height = width, height
            stream.pix_fmt, stream.options = 'yuv420p', {'crf': '23'}
            for t in range(round(options.seconds * options.fps)):
                shifted = np.roll(texture, (t, 2 * t), (0, 1))
                frame = shifted[:height, :width] + rng.normal(0, 5, grain)
                frame = frame.clip(0, 255).astype(np.uint8)
                image = av.VideoFrame.from_ndarray(frame, format='rgb24')
                container.mux(stream.encode(image))
            container.mux(stream.encode())
    return paths


def time_pipeline(
    cfg, paths: list[Path], rounds: int
) -> tuple[pd.Series, list[dict]]:
    """Time each transform of the training pipeline.

    Args:
        cfg (Config): Config with a ``train_dataloader``.
        paths (list[Path]): Clips.
        rounds (int): Passes over the clips, after one to warm up.

    Returns:
        tuple[Series, list]: Milliseconds of a clip by the transform's name,
        and the packed samples of the last pass.
    """
    # Imported here, as the host is optional.
    from mmaction.registry import TRANSFORMS

    pipeline = cfg.train_dataloader.dataset.pipeline
    transforms = [TRANSFORMS.build(step) for step in pipeline]
    np.random.seed(0)
    laps, samples = [], []
    for path in paths * (rounds + 1):
        results = dict(
            filename=str(path), label=0, start_index=0, modality='RGB'
        )
        marks = [time.perf_counter()]
        for transform in transforms:
            results = transform(results)
            marks.append(time.perf_counter())
        laps.append(marks)
        samples.append(results)
    names = [step['type'] for step in pipeline]
    return medians(laps[len(paths) :], names), samples[-len(paths) :]


def time_network(cfg, batch: dict, options: Namespace) -> pd.Series:
    """Return the milliseconds of each part of a training step."""
    torch.manual_seed(0)
    model = build_model(cfg, None).to(options.device).train()
    clips_last = torch.contiguous_format
    if options.channels_last:
        clips_last = torch.channels_last_3d
        for module in model.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.to(memory_format=clips_last)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    dtype = getattr(torch, options.amp or 'bfloat16')
    autocast = torch.autocast(options.device, dtype, options.amp is not None)
    laps = []
    for _ in range(options.steps + 1):
        marks = [timer()]  # PyTorch's timer waits for the GPU.
        data = model.data_preprocessor(copy.copy(batch), training=True)
        # (B, clips, C, T, H, W), of which the recogniser joins the first two.
        clips = data['inputs']
        flat = clips.flatten(0, 1).contiguous(memory_format=clips_last)
        data['inputs'] = flat.unflatten(0, clips.shape[:2])
        marks.append(timer())
        with autocast:
            losses = model(**data, mode='loss')
        loss, _ = model.parse_losses(losses)
        marks.append(timer())
        loss.backward()
        marks.append(timer())
        optimizer.step()
        optimizer.zero_grad()
        laps.append([*marks, timer()])
    return medians(laps[1:], PARTS)


def medians(laps: list[list[float]], names) -> pd.Series:
    """Return the median milliseconds between marks in seconds."""
    return pd.Series(1e3 * np.median(np.diff(laps), axis=0), index=names)


def as_table(title: str, times: pd.Series) -> str:
    """Return markdown rows with milliseconds and shares."""
    rows = [
        (k, f'{v:.1f}', f'{v / times.sum():.0%}') for k, v in times.items()
    ]
    rows.append(('all', f'{times.sum():.1f}', ''))
    table = pd.DataFrame(rows, columns=[title, 'ms', 'share'])
    return table.to_markdown(index=False, disable_numparse=True)
