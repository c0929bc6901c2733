"""Where a training step of a video config goes: decoder, transforms, network.

    python tools/profile_training.py configs/i3d_r50_cgnl_minikinetics.py
    python tools/profile_training.py CONFIG --device cuda --amp bfloat16
    python tools/profile_training.py CONFIG --seconds 10 --size 340 256

Generated clips of the size of the real ones take the place of the data set.
Each transform of the training pipeline is timed in one process on one thread;
the network runs whole steps over one batch. Medians; the last line says how
many workers feed the network.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

from cgnl_mm.cli import read_config_file, run


def write_clips(folder: Path, args: argparse.Namespace) -> list[Path]:
    """Noisy textures that move; about 0.6 Mbit/s at 340x256.

    Args:
        folder (Path): Where to.
        args (Namespace): ``clips``, ``seconds``, ``fps``, ``size``.

    Returns:
        list[Path]: mp4 files (H.264, yuv420p, CRF 23).
    """
    import av
    import numpy as np
    from scipy.ndimage import gaussian_filter

    width, height = args.size
    paths, grain = [], (height, width, 1)
    for number in range(args.clips):
        rng = np.random.default_rng(number)
        noise = rng.standard_normal((2 * height, 2 * width, 3))
        texture = gaussian_filter(noise, (3, 3, 0), mode='wrap')
        texture -= texture.min()
        texture = (255 / texture.max() * texture).astype(np.uint8)
        paths.append(folder / f'{number}.mp4')
        with av.open(str(paths[-1]), 'w') as container:
            stream = container.add_stream('libx264', rate=args.fps)
            stream.width, stream.height = width, height
            stream.pix_fmt, stream.options = 'yuv420p', {'crf': '23'}
            for t in range(round(args.seconds * args.fps)):
                shifted = np.roll(texture, (t, 2 * t), (0, 1))
                frame = shifted[:height, :width] + rng.normal(0, 5, grain)
                frame = frame.clip(0, 255).astype(np.uint8)
                image = av.VideoFrame.from_ndarray(frame, format='rgb24')
                container.mux(stream.encode(image))
            container.mux(stream.encode())
    return paths


def time_pipeline(cfg, paths: list[Path], rounds: int):
    """Seconds of each transform for a clip, and one batch of samples.

    Args:
        cfg (Config): With ``train_dataloader``.
        paths (list[Path]): Clips.
        rounds (int): Passes over them, after one to warm up.

    Returns:
        tuple[dict, list]: Median seconds by name, in order; packed samples.
    """
    import numpy as np
    from mmaction.registry import TRANSFORMS

    pipeline = cfg.train_dataloader.dataset.pipeline
    transforms = [TRANSFORMS.build(step) for step in pipeline]
    names = [step['type'] for step in pipeline]
    seconds = {name: [] for name in names}
    np.random.seed(0)
    samples = []
    for number in range(rounds + 1):
        for path in paths:
            results = dict(
                filename=str(path), label=0, start_index=0, modality='RGB'
            )
            for name, transform in zip(names, transforms):
                start = time.perf_counter()
                results = transform(results)
                if number:
                    seconds[name].append(time.perf_counter() - start)
            samples.append(results)
    medians = {k: statistics.median(v) for k, v in seconds.items()}
    return medians, samples[-len(paths) :]


def time_network(cfg, samples: list, args: argparse.Namespace) -> dict:
    """Median seconds of each part of a training step over one batch."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.dataset import pseudo_collate
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.default_scope)
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.backbone.pretrained = None
    # it lists every initialised parameter
    MMLogger.get_current_instance().setLevel('WARNING')
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    model.init_weights()
    model.to(args.device).train()
    if args.channels_last:
        for module in model.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = pseudo_collate(
        [samples[i % len(samples)] for i in range(args.batch)]
    )
    autocast = torch.autocast(
        args.device,
        dtype=getattr(torch, args.amp or 'bfloat16'),
        enabled=args.amp is not None,
    )
    parts = ('transfer, normalisation', 'forward', 'backward', 'optimizer')
    seconds = {name: [] for name in parts}

    def lap():
        if args.device == 'cuda':
            torch.cuda.synchronize()
        laps.append(time.perf_counter())

    for number in range(args.steps + 1):
        laps = []
        lap()
        data = model.data_preprocessor(copy.copy(batch), training=True)
        if args.channels_last:
            # (B, clips, C, T, H, W), of which the recogniser joins the first
            clips = data['inputs'].flatten(0, 1)
            clips = clips.contiguous(memory_format=torch.channels_last_3d)
            data['inputs'] = clips.unflatten(0, (args.batch, -1))
        lap()
        with autocast:
            losses = model(**data, mode='loss')
        loss, _ = model.parse_losses(losses)
        lap()
        loss.backward()
        lap()
        optimizer.step()
        optimizer.zero_grad()
        lap()
        if number:
            for name, start, end in zip(parts, laps, laps[1:]):
                seconds[name].append(end - start)
    return {k: statistics.median(v) for k, v in seconds.items()}


def table(title: str, seconds: dict[str, float]) -> list[str]:
    """Markdown rows: milliseconds and share."""
    total = sum(seconds.values())
    return [
        f'| {title} | ms | share |',
        '|---|---|---|',
        *(
            f'| {name} | {1e3 * value:.1f} | {value / total:.0%} |'
            for name, value in seconds.items()
        ),
        f'| all | {1e3 * total:.1f} | |',
        '',
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='of an mmaction2 recogniser')
    add('--clips', type=int, default=8, help='clips; default: 8')
    add('--seconds', type=float, default=10.0, help='of a clip; default: 10')
    add('--fps', type=int, default=30, help='frames a second; default: 30')
    add(
        '--size',
        type=int,
        nargs=2,
        default=(340, 256),
        metavar=('W', 'H'),
        help='of a frame, even; default: 340 256',
    )
    add(
        '--rounds',
        type=int,
        default=5,
        help='passes over the clips; default: 5',
    )
    add('--batch', type=int, help="clips of a step; default: the config's")
    add('--steps', type=int, default=5, help='default: 5')
    add(
        '--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu'
    )
    add(
        '--amp',
        choices=['bfloat16', 'float16'],
        help='mixed precision; default: none',
    )
    add('--channels-last', action='store_true',
        help='the network in channels-last layout')  # fmt: skip
    args = parser.parse_args(argv)
    for name in ('clips', 'seconds', 'fps', 'rounds', 'batch', 'steps'):
        value = getattr(args, name)
        if value is not None and not value > 0:
            parser.error(f'--{name} must be positive, got {value:g}')
    if min(args.size) < 2 or any(n % 2 for n in args.size):
        parser.error(f'--size must be even, got {args.size}')
    return args


def main() -> None:
    args = parse_args()
    import torch

    from cgnl_mm.errors import SetupError
    from cgnl_mm.hosts import require_host

    require_host('mmaction')
    cfg = read_config_file(args.config)
    if cfg.get('default_scope') != 'mmaction':
        raise SetupError(
            f'{args.config} is no config of mmaction2, whose clips this '
            'profile is about'
        )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SetupError('--device cuda: PyTorch sees no GPU')
    from mmaction.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    args.batch = args.batch or cfg.train_dataloader.batch_size
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), args)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        torch.set_num_threads(1)
        clip, samples = time_pipeline(cfg, paths, args.rounds)
        torch.set_num_threads(threads)
        step = time_network(cfg, samples, args)
    width, height = args.size
    print(
        f'{args.config}, {args.clips} clips of {args.seconds:g} s, '
        f'{width}x{height}, {args.fps} frames/s, {size / 1e6:.2f} MB; '
        f'torch {torch.__version__}, {args.device}, {threads} threads, '
        f'{args.amp or "float32"}'
        f'{", channels-last" if args.channels_last else ""}\n'
    )
    print('\n'.join(table('a clip, one core', clip)))
    print('\n'.join(table(f'a step of {args.batch} clips', step)))
    seconds, network = sum(clip.values()), sum(step.values()) / args.batch
    print(
        f'the network takes {1e3 * network:.1f} ms a clip, a worker '
        f'{1e3 * seconds:.1f} ms: {seconds / network:.1f} workers feed it'
    )


if __name__ == '__main__':
    run(main)
