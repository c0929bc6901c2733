"""Samples whose file cannot be read: skipped in training, named in testing.

MMEngine's data sets take another sample where a pipeline returns None. Here
a pipeline returns None for what is wrong with a file, or where a transform
of a training drops a sample on purpose: an error in a config or in a
transform stays an error, and so does a machine that has no room left.
"""

import errno
import mimetypes
import os
import stat
from typing import Callable, Iterable, Iterator, Optional

import numpy as np
from mmengine.dataset import Compose

from ..errors import SetupError, UnreadableFileError, printable

# of a sample, in the three hosts; frame_dir is a folder of images
KEYS = ('filename', 'img_path', 'frame_dir')
# what readers raise for a file, whatever its content
READERS = ('av', 'decord')
# what the process or its machine ran out of
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)


class GuardedPipeline(Compose):
    """A pipeline that tells a broken file from a broken pipeline.

    Args:
        pipeline (Compose): The pipeline; its transforms are shared.
        on_fault (Callable, optional): Told path and reason of a file that is
            skipped. Without it a broken file is an error, which names it,
            and so is a sample that a transform drops. Defaults to None.

    Raises:
        UnreadableFileError: By a call, without ``on_fault``.
        SetupError: By a call, without ``on_fault``: a transform returned
            None, and not for its file.
    """

    def __init__(
        self,
        pipeline: Compose,
        on_fault: Optional[Callable[[str, str], None]] = None,
    ) -> None:
        self.transforms = pipeline.transforms
        self.on_fault = on_fault
        self.backend = backend_of(pipeline.transforms)

    def __call__(self, data: dict) -> Optional[dict]:
        sample = dict(data)  # transforms change what they get
        try:
            for transform in self.transforms:
                result = transform(data)
                if result is None:
                    break
                data = result
            else:
                return data
        except Exception as error:
            return self.skip_broken(sample, error, frames_of(data))
        return self._skip_dropped(sample, data, transform)

    def skip_broken(
        self,
        sample: dict,
        error: Exception,
        frames: Optional[Iterable[str]] = None,
    ) -> None:
        """Raise ``error`` again unless the sample's file is at fault."""
        path = path_of(sample)
        backend = backend_for(sample, self.backend)
        reason = path and find_fault(
            path, error, frames, _strings(sample), backend
        )
        if not reason:
            raise error
        self._skip(path, reason, error)

    def _skip_dropped(
        self, sample: dict, data: dict, transform: Callable
    ) -> None:
        """A transform returned None: for the file, or as crops may do."""
        path, name = path_of(sample), type(transform).__name__
        reason = None
        if path and 'img' not in data and 'imgs' not in data:
            backend = backend_for(sample, self.backend)
            reason = find_fault(path, None, frames_of(data), backend=backend)
            # its error, of the network or whatever, is lost
            if not reason and getattr(transform, 'ignore_empty', False):
                reason = f'{name}(ignore_empty=True) could not load it'
        if reason:
            self._skip(path, reason)
        elif self.on_fault is None:
            raise SetupError(
                f'{printable(path or "a sample")}: {name} returned None in '
                'its place. A result without this sample would not compare: '
                f'take {name} out of the pipeline of validation and testing'
            )

    def _skip(
        self, path: str, reason: str, error: Optional[Exception] = None
    ) -> None:
        if self.on_fault is None:
            raise UnreadableFileError(
                f'{printable(path)}: {printable(reason)}. A result without '
                'this sample would not compare: repair the file, or take it '
                'out of the annotation file'
            ) from error
        self.on_fault(path, reason)


class GuardedPreparation:
    """``prepare_data`` of a data set that calls the transforms itself.

    A class, since data sets are pickled for workers.

    Args:
        data_set (BaseDataset): Its pipeline is guarded.
    """

    def __init__(self, data_set) -> None:
        self.data_set = data_set

    def __call__(self, index: int):
        try:
            return type(self.data_set).prepare_data(self.data_set, index)
        except Exception as error:
            sample = self.data_set.get_data_info(index)
            return self.data_set.pipeline.skip_broken(sample, error)


def guard(
    data_set, on_fault: Optional[Callable[[str, str], None]] = None
) -> None:
    """Have a data set tell its broken files.

    Args:
        data_set (BaseDataset): One of :func:`leaves`.
        on_fault (Callable, optional): As of :class:`GuardedPipeline`.
    """
    data_set.pipeline = GuardedPipeline(data_set.pipeline, on_fault)
    # mmaction2's, which never calls its pipeline
    names = [kind.__name__ for kind in type(data_set).__mro__]
    if 'RepeatAugDataset' in names:
        data_set.prepare_data = GuardedPreparation(data_set)


def path_of(data: dict) -> Optional[str]:
    """File, folder of frames, or URL of a sample."""
    for key in KEYS:
        path = data.get(key)
        # some samples have a list of them
        if path and isinstance(path, (str, os.PathLike)):
            return os.fspath(path)
    return None


def is_remote(path: str) -> bool:
    """Whether only a file client can read it: ``s3://``, ``http://``."""
    return '://' in path


def backend_of(transforms: Iterable[Callable]) -> Optional[str]:
    """Say by which backend of mmcv a pipeline decodes images.

    Args:
        transforms (Iterable[Callable]): Of the pipeline.

    Returns:
        str | None: The first loader's; None if no transform names one.
    """
    for transform in transforms:
        for key in ('imdecode_backend', 'decoding_backend'):
            if hasattr(transform, key):
                return getattr(transform, key) or 'cv2'
    return None


def backend_for(sample: dict, backend: Optional[str]) -> Optional[str]:
    """``backend`` for a sample of images; None for one of a video file."""
    return None if sample.get('filename') else backend


def find_fault(
    path: str,
    error: Optional[Exception],
    frames: Optional[Iterable[str]] = None,
    others: Iterable[str] = (),
    backend: Optional[str] = None,
) -> Optional[str]:
    """Say what is wrong with a file that a pipeline failed on.

    Args:
        path (str): File, folder of frames, or URL.
        error (Exception, optional): What the pipeline raised.
        frames (Iterable[str], optional): Names of the files that were asked
            for in a folder of frames. Defaults to None: all images in it.
        others (Iterable[str]): Further files of the sample, such as a map of
            its segments. Defaults to ().
        backend (str, optional): As of :func:`check_file`.

    Returns:
        str | None: The reason; None if the file is not at fault.
    """
    trusted = _tells_of(error, path, others)
    try:
        if is_remote(path):
            reason = None
        elif os.path.isdir(path):
            reason = check_frames(path, frames, backend)
        elif trusted and os.path.exists(path):
            reason = None
        else:
            return check_file(path, backend)
    except OSError:  # EXHAUSTED: nothing is known of the file
        return None
    return reason or (describe(error) if trusted else None)


def _tells_of(
    error: Optional[Exception], path: str, others: Iterable[str]
) -> bool:
    """Whether an error is one of reading a sample's files."""
    kind = type(error).__module__.partition('.')[0]
    if kind not in READERS and not isinstance(error, (OSError, EOFError)):
        return False
    if _is_exhausted(error):
        return False
    named = getattr(error, 'filename', None)
    if is_remote(path) or not isinstance(named, (str, bytes)):
        return True
    # a transform may read files of its own
    named, path = map(os.path.realpath, (os.fsdecode(named), path))
    return (
        named == path
        or named.startswith(path + os.sep)
        or named in map(os.path.realpath, others)
    )


def _is_exhausted(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in EXHAUSTED


def _strings(data: dict) -> 'list[str]':
    return [value for value in data.values() if value and type(value) is str]


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
    folder: str,
    names: Optional[Iterable[str]] = None,
    backend: Optional[str] = None,
) -> Optional[str]:
    """Decode the images of a folder.

    Args:
        folder (str): A folder that exists.
        names (Iterable[str], optional): Names of the files. Defaults to
            None: all that the suffix says to be images.
        backend (str, optional): As of :func:`check_file`.

    Returns:
        str | None: The reason and the name of the first that cannot be read;
        None if all can.

    Raises:
        OSError: As :func:`check_file`.
    """
    if names is None:
        try:
            names = sorted(filter(_is_image, os.listdir(folder)))
        except OSError as error:
            if _is_exhausted(error):
                raise
            return describe(error)
        if not names:
            return 'no frame'
    for name in names:
        reason = check_file(os.path.join(folder, name), backend)
        if reason:
            return f'{reason}: {name}'
    return None


def check_sample(
    path: str, data: dict, backend: Optional[str] = None
) -> Optional[str]:
    """Decode all that a data set's sample may need.

    Args:
        path (str): Its file, or its folder of frames.
        data (dict): The sample, not changed by a pipeline.
        backend (str, optional): As of :func:`check_file`.

    Returns:
        str | None: The reason why it cannot be read; None if it can.
    """
    if not data.get('frame_dir') or not os.path.isdir(path):
        return check_file(path, backend)
    first, total = data.get('start_index', 1), data.get('total_frames', 0)
    indices = range(first, first + total)
    names = frames_of(data, indices) if indices else None
    return check_frames(path, names, backend)


def check_file(path: str, backend: Optional[str] = None) -> Optional[str]:
    """Decode a whole image or video file.

    Args:
        path (str): A file. Remote ones are not for this function.
        backend (str, optional): Backend of mmcv by which the pipeline
            decodes this image. Pillow, which finds more, has to read what it
            knows, OpenCV ('cv2') what it is to read; other backends are not
            tried. Defaults to None: Pillow or PyAV, by the suffix.

    Returns:
        str | None: The reason why it cannot be read; None if it can.

    Raises:
        ValueError: If the path is a URL.
        OSError: If the process has no memory or no file descriptor left.
    """
    if is_remote(path):
        raise ValueError(f'{printable(path)}: remote files are not checked')
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 'dead link' if os.path.islink(path) else 'missing'
    except OSError as error:
        if _is_exhausted(error):
            raise
        return describe(error)
    if not stat.S_ISREG(status.st_mode):
        return 'no regular file'
    if status.st_size == 0:
        return 'zero bytes'
    try:
        if backend or _is_image(path):
            return _decode_image(path, backend)
        _decode_video(path)
    except Exception as error:  # decoders raise what they like
        if _is_exhausted(error):
            raise
        return describe(error)
    return None


def describe(error: BaseException) -> str:
    """One line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}'[:300]


def _is_image(path: str) -> bool:
    return (mimetypes.guess_type(path)[0] or '').startswith('image')


def _decode_image(path: str, backend: Optional[str]) -> Optional[str]:
    from PIL import Image, UnidentifiedImageError

    if backend == 'tifffile':  # it reads more of them than Pillow
        try:
            import tifffile
        except ImportError:
            return None  # no fault of the file
        tifffile.imread(path)
        return None
    kind, unknown = None, None
    try:
        with Image.open(path) as image:
            kind = image.format
            image.load()
    except UnidentifiedImageError as error:
        if backend != 'cv2':
            raise
        unknown = error  # OpenCV reads .hdr, for one
    if backend != 'cv2':
        return None
    import mmcv

    with open(path, 'rb') as file:
        content = file.read()
    if mmcv.imfrombytes(content, backend=backend) is not None:
        return None
    if unknown is not None:
        raise unknown
    return f'foreign format: Pillow reads it ({kind}), OpenCV does not'


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
