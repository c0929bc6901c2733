"""Rendered frames as mp4 and gif."""

from fractions import Fraction
from pathlib import Path
from typing import Iterable

import numpy as np

from ..errors import SetupError


def write_mp4(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """Encode RGB frames (H, W, 3), uint8, with H.264.

    Args:
        frames (Iterable[ndarray]): Of one size; an odd last row or column
            is left out, as the codec needs even sizes.
        path (Path): The mp4 file.
        fps (float): Frames a second.

    Raises:
        SetupError: If PyAV or its H.264 encoder is missing.
    """
    try:
        import av
    except ImportError as error:
        raise SetupError(
            'mp4 files need PyAV: run `pip install av`'
        ) from error
    if 'libx264' not in av.codecs_available:
        raise SetupError(
            f'this PyAV ({av.__version__}) was built without libx264: run '
            '`pip install --force-reinstall --only-binary av av`'
        )
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(
            'libx264',
            rate=Fraction(fps).limit_denominator(1000),
            options={'crf': '18'},
        )
        stream.pix_fmt = 'yuv420p'
        height = width = None
        for frame in frames:
            if height is None:
                height, width = (size // 2 * 2 for size in frame.shape[:2])
                stream.height, stream.width = height, width
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame[:height, :width]), format='rgb24'
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_gif(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """Write RGB frames (H, W, 3), uint8, as an endless gif.

    Args:
        frames (Iterable[ndarray]): Of one size.
        path (Path): The gif file.
        fps (float): Frames a second; a gif counts in hundredths of one.
    """
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(
        path,
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
    )
