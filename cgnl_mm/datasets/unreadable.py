"""Samples whose file cannot be read: skipped in training, named in testing.

MMEngine's data sets take another sample where a pipeline returns None. Here
a pipeline returns None for what is wrong with a file, and for nothing else:
an error in a config or in a transform stays an error.
"""

import mimetypes
import os
import stat
from typing import Callable, Iterable, Iterator, Optional

import numpy as np
from mmengine.dataset import Compose

from ..errors import UnreadableFileError

# of a sample, in the three hosts; frame_dir is a folder of images
KEYS = ('filename', 'img_path', 'frame_dir')
# what readers raise for a file, whatever its content
READERS = ('av', 'decord')


class GuardedPipeline(Compose):
    """A pipeline that tells a broken file from a broken pipeline.

    Args:
        pipeline (Compose): The pipeline; its transforms are shared.
        on_fault (Callable, optional): Told path and reason of a file that is
            skipped. Without it a broken file is an error, which names it.
            Defaults to None.

    Raises:
        UnreadableFileError: By a call, without ``on_fault``.
    """

    def __init__(
        self,
        pipeline: Compose,
        on_fault: Optional[Callable[[str, str], None]] = None,
    ) -> None:
        self.transforms = pipeline.transforms
        self.on_fault = on_fault

    def __call__(self, data: dict) -> Optional[dict]:
        path = next((str(data[key]) for key in KEYS if data.get(key)), None)
        try:
            return super().__call__(data)
        except Exception as error:
            reason = path and find_fault(path, error, frames_of(data))
            if not reason:
                raise
            if self.on_fault is None:
                raise UnreadableFileError(
                    f'{path}: {reason}. A result without this sample would '
                    'not compare: repair the file, or take it out of the '
                    'annotation file'
                ) from error
            self.on_fault(path, reason)
            return None


def find_fault(
    path: str, error: Exception, frames: Optional[Iterable[str]] = None
) -> Optional[str]:
    """Say what is wrong with a file that a pipeline failed on.

    Args:
        path (str): File, folder of frames, or URL.
        error (Exception): What the pipeline raised.
        frames (Iterable[str], optional): Names of the files that were asked
            for in a folder of frames. Defaults to None: all images in it.

    Returns:
        str | None: The reason; None if the file is not at fault.
    """
    is_url = '://' in path
    if not is_url and not os.path.exists(path):
        return check_file(path)
    is_folder = not is_url and os.path.isdir(path)
    reason = check_frames(path, frames) if is_folder else None
    if reason:
        return reason
    of_reader = type(error).__module__.partition('.')[0] in READERS
    if of_reader or isinstance(error, (OSError, EOFError)):
        return describe(error)
    return None if is_url or is_folder else check_file(path)


def frames_of(data: dict, indices: Optional[Iterable[int]] = None):
    """Names of frames in a folder, as mmaction2's RawFrameDecode makes them.

    Args:
        data (dict): A sample, before or after a pipeline's SampleFrames.
        indices (Iterable[int], optional): Numbers of the frames. Defaults to
            None: those that were sampled.

    Returns:
        list | None: Without ``filename_tmpl`` or indices there is none.
    """
    template = data.get('filename_tmpl')
    if indices is None and data.get('frame_inds') is not None:
        indices = np.unique(data['frame_inds']).tolist()
    if template is None or indices is None:
        return None
    numbers = [i + data.get('offset', 0) for i in indices]
    if data.get('modality') == 'Flow':
        return [template.format(axis, i) for i in numbers for axis in 'xy']
    return [template.format(i) for i in numbers]


def check_frames(
    folder: str, names: Optional[Iterable[str]] = None
) -> Optional[str]:
    """Decode the images of a folder.

    Args:
        folder (str): A folder that exists.
        names (Iterable[str], optional): Names of the files. Defaults to
            None: all that the suffix says to be images.

    Returns:
        str | None: The reason and the name of the first that cannot be read;
        None if all can.
    """
    if names is None:
        try:
            names = sorted(filter(_is_image, os.listdir(folder)))
        except OSError as error:
            return describe(error)
        if not names:
            return 'no frame'
    for name in names:
        reason = check_file(os.path.join(folder, name))
        if reason:
            return f'{reason}: {name}'
    return None


def check_sample(path: str, data: dict) -> Optional[str]:
    """Decode all that a data set's sample may need.

    Args:
        path (str): Its file, or its folder of frames.
        data (dict): The sample, not changed by a pipeline.

    Returns:
        str | None: The reason why it cannot be read; None if it can.
    """
    if not data.get('frame_dir') or not os.path.isdir(path):
        return check_file(path)
    first, total = data.get('start_index', 1), data.get('total_frames', 0)
    indices = range(first, first + total)
    return check_frames(path, frames_of(data, indices) if indices else None)


def check_file(path: str) -> Optional[str]:
    """Decode a whole image or video file.

    Args:
        path (str): A file; what it holds is told by its suffix.

    Returns:
        str | None: The reason why it cannot be read; None if it can.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 'dead link' if os.path.islink(path) else 'missing'
    except OSError as error:
        return describe(error)
    if not stat.S_ISREG(status.st_mode):
        return 'no regular file'
    if status.st_size == 0:
        return 'zero bytes'
    try:
        if _is_image(path):
            _decode_image(path)
        else:
            _decode_video(path)
    except Exception as error:  # decoders raise what they like
        return describe(error)
    return None


def describe(error: BaseException) -> str:
    """One line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}'[:300]


def _is_image(path: str) -> bool:
    return (mimetypes.guess_type(path)[0] or '').startswith('image')


def _decode_image(path: str) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _decode_video(path: str) -> None:
    import av

    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError('no video stream')
        if container.streams.video[0].codec_context is None:
            raise ValueError('no decoder')  # PyAV 17.1 crashes
        frames = sum(1 for _ in container.decode(video=0))
    if not frames:
        raise ValueError('no frame')


def leaves(data_set) -> Iterator:
    """Yield the data sets with a pipeline inside wrappers."""
    inner = getattr(data_set, 'datasets', None)
    if inner is None and hasattr(data_set, 'dataset'):
        inner = [data_set.dataset]
    if inner is not None:
        for child in inner:
            yield from leaves(child)
    elif hasattr(data_set, 'pipeline'):
        yield data_set
