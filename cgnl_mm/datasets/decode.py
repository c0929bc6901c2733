"""Decode whole files, and say in one line why one cannot be read."""

import errno
import mimetypes
import os
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Optional

import numpy as np

from ..errors import describe_error
from .mp4 import find_wild_index

# Keys of a path in the samples of the three hosts. frame_dir is a folder.
KEYS = ('filename', 'img_path', 'frame_dir')
# Errors of a process or a machine that ran out of something.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
PATIENCE = 300.0  # seconds for a file; a network's disk may pause for minutes
LATE = 1.0  # seconds; only a process that was stopped gets an alarm later


def path_of(sample: dict) -> Optional[str]:
    """Return the file, folder of frames or URL of a sample, if it has one."""
    for key in KEYS:
        path = sample.get(key)
        # Some samples have a list of paths.
        if path and isinstance(path, (str, os.PathLike)):
            return os.fspath(path)
    return None


def is_remote(path: str) -> bool:
    """Say whether only a file client reads a path (``s3://``, ``http://``)."""
    return '://' in path


def is_exhausted(error: Exception) -> bool:
    """Say whether an error is the machine's fault rather than a file's."""
    return isinstance(error, OSError) and error.errno in EXHAUSTED


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer than PATIENCE.

    The block is stopped by a signal, which ends a wait of the system's, too.
    In a thread, or where somebody else has set the timer, there is no limit.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or any(signal.getitimer(signal.ITIMER_REAL)):
        yield
        return

    def start() -> float:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        return time.monotonic()

    def stop(*_):
        nonlocal since
        if time.monotonic() - since < PATIENCE + LATE:
            raise TimeoutError(f'no answer in {PATIENCE:g} seconds')
        since = start()  # the process stood still, so the file may be well

    before = signal.signal(signal.SIGALRM, stop)
    since = start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def list_kinds(reasons: Iterable[str]) -> str:
    """Count the kinds of faults in words, the largest first.

    A kind is what stands before the first colon of a reason.
    """
    kinds = Counter(reason.partition(':')[0] for reason in reasons)
    return ', '.join(f'{n} {kind}' for kind, n in kinds.most_common())


def check_sample(sample: dict, backend: Optional[str] = None) -> Optional[str]:
    """Decode all that a data set's sample needs.

    Args:
        sample (dict): The sample, with the path of a local file or folder.
        backend (str, optional): Backend of mmcv by which the pipeline
            decodes images. Defaults to None: Pillow.

    Returns:
        str | None: The reason why the sample cannot be read; None if it can.

    Raises:
        OSError: If the process has no memory or no file descriptor left.
    """
    path = path_of(sample)
    if sample.get('filename'):
        return check_file(path)
    if not os.path.isdir(path):
        return check_file(path, backend or 'pillow')
    names = frame_names(sample)
    if names is None:
        names = sorted(filter(_is_image, os.listdir(path)))
    for name in names:
        reason = check_file(os.path.join(path, name), backend or 'pillow')
        if reason:
            return f'{reason}: {name}'
    return None if names else 'no frame'


def frame_names(sample: dict) -> Optional[list[str]]:
    """Name the frames of a folder, as mmaction2's RawFrameDecode does.

    Args:
        sample (dict): A sample, before or after SampleFrames.

    Returns:
        list[str] | None: The sampled frames, or all frames of the clip; None
        if the sample does not tell which it needs.
    """
    template, frames = sample.get('filename_tmpl'), sample.get('frame_inds')
    if template is None:
        return None
    if frames is None and sample.get('total_frames'):
        frames = np.arange(sample['total_frames'])
        frames += sample.get('start_index', 1)
    if frames is None:
        return None
    numbers = [i + sample.get('offset', 0) for i in np.unique(frames).tolist()]
    if sample.get('modality') == 'Flow':
        return [template.format(axis, i) for i in numbers for axis in 'xy']
    return [template.format(i) for i in numbers]


def find_danger(sample: dict) -> Optional[str]:
    """Say why a decoder would hang or crash on the file of a sample.

    A pipe or a device may never answer. A file that cannot be looked at is
    left to the decoder, whose error tells more.

    Args:
        sample (dict): The sample, as the data set gives it.

    Returns:
        str | None: The reason; None if there is no such danger.
    """
    path = path_of(sample)
    if path is None or is_remote(path):
        return None
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return None if stat.S_ISDIR(mode) else 'no regular file'
        return None if _is_image(path) else find_wild_index(path)
    except (OSError, ValueError, RecursionError):  # boxes in boxes in ...
        return None


def check_file(path: str, backend: Optional[str] = None) -> Optional[str]:
    """Decode a whole local image or video file.

    Args:
        path (str): The file.
        backend (str, optional): Backend of mmcv by which the pipeline
            decodes this image. Pillow has to read it as well, since OpenCV
            ('cv2') does not notice a missing end. Defaults to None: the
            suffix tells an image, for Pillow, from a video, for PyAV.

    Returns:
        str | None: The reason why the file cannot be read; None if it can.

    Raises:
        OSError: If the process has no memory or no file descriptor left.
    """
    if backend is None and not _is_image(path):
        return inspect_file(path, decode_video)
    return inspect_file(path, lambda path: decode_image(path, backend))


def inspect_file(
    path: str, decode: Optional[Callable[[str], Optional[str]]] = None
) -> Optional[str]:
    """Look at a file, and decode it if asked to.

    Args:
        path (str): The file.
        decode (Callable, optional): Raises, or returns a reason, if the
            content is broken. Defaults to None.

    Returns:
        str | None: The reason why the file cannot be read; None if it can.

    Raises:
        OSError: If the process has no memory or no file descriptor left.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return 'no regular file'
        if status.st_size == 0:
            return 'zero bytes'
        with time_limit():
            return decode(path) if decode else None
    except (FileNotFoundError, NotADirectoryError):
        return 'dead link' if os.path.islink(path) else 'missing'
    except Exception as error:  # decoders raise what they like
        if is_exhausted(error):
            raise
        return describe_error(error)


def _is_image(path: str) -> bool:
    return (mimetypes.guess_type(path)[0] or '').startswith('image')


def decode_image(path: str, backend: Optional[str] = None) -> Optional[str]:
    """Decode an image by Pillow and, if that is the backend, by OpenCV.

    Args:
        path (str): The image.
        backend (str, optional): Backend of mmcv. Defaults to None.

    Returns:
        str | None: The reason why OpenCV does not read what Pillow reads.
    """
    from PIL import Image, UnidentifiedImageError  # a host's dependency

    if backend == 'tifffile':  # it reads more files than Pillow
        return None
    try:
        with Image.open(path) as image:
            kind = image.format
            image.load()
    except UnidentifiedImageError:
        if backend == 'cv2' and _opencv_reads(path):  # .hdr, for one
            return None
        raise
    if backend != 'cv2' or _opencv_reads(path):
        return None
    return f'foreign format: Pillow reads it ({kind}), OpenCV does not'


def _opencv_reads(path: str) -> bool:
    import cv2  # a host's dependency

    content = np.fromfile(path, np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR) is not None


def decode_video(path: str) -> None:
    """Decode every frame of a video by PyAV.

    Raises:
        ValueError: If there is no frame.
    """
    import av  # optional

    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError('no video stream')
        if container.streams.video[0].codec_context is None:
            raise ValueError('no decoder')  # PyAV 17.1 would crash
        if not sum(1 for _ in container.decode(video=0)):
            raise ValueError('no frame')


def try_decord(path: str) -> Optional[str]:
    """Read the ends of a video by decord, which may end the process.

    Returns:
        str | None: As :func:`inspect_file`.
    """
    import decord  # optional

    def read(path: str) -> None:
        with open(path, 'rb') as file:
            video = decord.VideoReader(file, num_threads=1)
        video.get_batch([0, len(video) - 1])

    return inspect_file(path, read)
