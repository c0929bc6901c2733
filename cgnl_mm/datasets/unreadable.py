"""Samples whose file cannot be read: skipped in training, named in testing.

MMEngine's data sets take another sample where a pipeline returns None. Here
a pipeline returns None for what is wrong with a file, and for nothing else:
an error in a config or in a transform stays an error.
"""

import mimetypes
import os
import stat
from typing import Callable, Iterator, Optional

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
            reason = path and find_fault(path, error)
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


def find_fault(path: str, error: Exception) -> Optional[str]:
    """Say what is wrong with a file that a pipeline failed on.

    Args:
        path (str): File, folder of frames, or URL.
        error (Exception): What the pipeline raised.

    Returns:
        str | None: The reason; None if the file is not at fault.
    """
    is_url = '://' in path
    if not is_url and not os.path.exists(path):
        return check_file(path)
    of_reader = type(error).__module__.partition('.')[0] in READERS
    if of_reader or isinstance(error, (OSError, EOFError)):
        return describe(error)
    if is_url or os.path.isdir(path):
        return None
    return check_file(path)


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
    kind = mimetypes.guess_type(path)[0] or ''
    try:
        if kind.startswith('image'):
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


def _decode_image(path: str) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _decode_video(path: str) -> None:
    import av

    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError('no video stream')
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
