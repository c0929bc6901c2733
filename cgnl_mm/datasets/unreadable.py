"""Samples whose file cannot be read: skipped in training, named in testing.

MMEngine's data sets take another sample where a pipeline returns None. The
guarded pipeline here returns None for a broken file. In training it also does
so where a transform drops a sample on purpose. An error of a config, of a
transform or of an exhausted machine stays an error.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

from mmengine.dataset import Compose

from ..errors import (
    SetupError,
    UnreadableFileError,
    describe_error,
    printable,
)
from .decode import (
    check_sample,
    find_danger,
    is_exhausted,
    is_remote,
    path_of,
    time_limit,
)

# Receives path and reason of a file that is skipped.
OnFault = Optional[Callable[[str, str], None]]
# Packages whose errors are about a file, whatever its content.
READERS = ('av', 'decord')


class GuardedPipeline(Compose):
    """A pipeline that tells a broken file from a broken pipeline.

    Args:
        pipeline (Compose): The pipeline; its transforms are shared.
        on_fault (Callable, optional): Receives path and reason of a file
            that is skipped. Without it a broken file is an error that names
            the file, and so is a sample that a transform drops. Defaults to
            None.

    Raises:
        UnreadableFileError: By a call without ``on_fault``, for the file.
        SetupError: By a call without ``on_fault``, if a transform returned
            None for another reason.
    """

    def __init__(self, pipeline: Compose, on_fault: OnFault = None) -> None:
        self.transforms = pipeline.transforms
        self.on_fault = on_fault
        self.backend = backend_of(pipeline.transforms)

    def __call__(self, data: dict) -> Optional[dict]:
        sample = dict(data)  # transforms change what they get
        fault = find_danger(sample)
        if fault:
            return self.skip(sample, fault)
        for transform in self.transforms:
            try:
                with time_limit():
                    result = transform(data)
            except Exception as error:
                return self.skip_broken(sample, error, data)
            if result is None:
                return self._skip_dropped(sample, data, transform)
            data = result
        return data

    def skip_broken(
        self, sample: dict, error: Exception, data: Optional[dict] = None
    ) -> None:
        """Skip a sample whose file is at fault; raise the error again if not.

        Args:
            sample (dict): The sample, as the data set gives it.
            error (Exception): The error of the pipeline.
            data (dict, optional): The sample that the failing transform got.
        """
        reason = find_fault(sample, error, data, self.backend)
        if reason is None:
            raise error
        self.skip(sample, reason, error)

    def _skip_dropped(
        self, sample: dict, data: dict, transform: Callable
    ) -> None:
        """Skip a sample in place of which a transform returned None."""
        name, reason = type(transform).__name__, None
        path = path_of(sample)
        if path and not {'img', 'imgs'} & data.keys():
            reason = find_fault(sample, None, data, self.backend)
            # The loader has swallowed its error, of the network for one.
            if not reason and getattr(transform, 'ignore_empty', False):
                reason = f'{name}(ignore_empty=True) could not load it'
        if reason:
            self.skip(sample, reason)
        elif self.on_fault is None:
            raise SetupError(
                f'{printable(path or "a sample")}: {name} returned None in '
                'its place. A result without this sample would not compare: '
                f'take {name} out of the pipeline of validation and testing'
            )

    def skip(
        self, sample: dict, reason: str, error: Optional[Exception] = None
    ) -> None:
        """Report a sample as unreadable; raise without ``on_fault``."""
        path = path_of(sample)
        if self.on_fault is None:
            raise UnreadableFileError(
                f'{printable(path)}: {printable(reason)}. A result without '
                'this sample would not compare: repair the file, or take it '
                'out of the annotation file'
            ) from error
        self.on_fault(path, reason)


class GuardedPreparation:
    """The ``prepare_data`` of a data set that calls the transforms itself.

    It is a class because data sets are pickled for their workers.

    Args:
        data_set (BaseDataset): The data set; its pipeline is guarded.
    """

    def __init__(self, data_set) -> None:
        self.data_set = data_set

    def __call__(self, index: int):
        sample = self.data_set.get_data_info(index)
        fault = find_danger(sample)
        if fault:
            return self.data_set.pipeline.skip(sample, fault)
        try:
            with time_limit():
                return type(self.data_set).prepare_data(self.data_set, index)
        except Exception as error:
            return self.data_set.pipeline.skip_broken(sample, error)


def guard(data_set, on_fault: OnFault = None) -> None:
    """Make a data set tell its broken files.

    Args:
        data_set (BaseDataset): One of :func:`leaves`.
        on_fault (Callable, optional): As of :class:`GuardedPipeline`.
    """
    data_set.pipeline = GuardedPipeline(data_set.pipeline, on_fault)
    # This data set of mmaction2 never calls its pipeline.
    names = [kind.__name__ for kind in type(data_set).__mro__]
    if 'RepeatAugDataset' in names:
        data_set.prepare_data = GuardedPreparation(data_set)


def guard_loader(loader, on_fault: OnFault = None) -> None:
    """Guard the data sets of a loader that are not guarded yet.

    Args:
        loader (DataLoader): The loader.
        on_fault (Callable, optional): As of :class:`GuardedPipeline`.
    """
    for data_set in leaves(loader.dataset):
        if not isinstance(data_set.pipeline, GuardedPipeline):
            guard(data_set, on_fault)


def backend_of(transforms: Iterable[Callable]) -> Optional[str]:
    """Find the backend of mmcv by which a pipeline decodes images.

    Args:
        transforms (Iterable[Callable]): The transforms of the pipeline.

    Returns:
        str | None: The first loader's backend; None if no transform names
        one.
    """
    for transform in transforms:
        for key in ('imdecode_backend', 'decoding_backend'):
            if hasattr(transform, key):
                return getattr(transform, key) or 'cv2'
    return None


def find_fault(
    sample: dict,
    error: Optional[Exception] = None,
    data: Optional[dict] = None,
    backend: Optional[str] = None,
) -> Optional[str]:
    """Say what is wrong with the file of a sample that a pipeline failed on.

    Args:
        sample (dict): The sample, as the data set gives it.
        error (Exception, optional): The error of the pipeline.
        data (dict, optional): The sample that the failing transform got. It
            tells which frames of a folder are needed.
        backend (str, optional): As of :func:`.decode.check_file`.

    Returns:
        str | None: The reason; None if the file is not at fault.
    """
    path = path_of(sample)
    if path is None:
        return None
    is_told = error is not None and _is_about(error, sample)
    reason = None
    # A whole look at a file takes time; a reader's error says enough. In a
    # folder, the look finds the name of the frame, unless it does not answer.
    is_silent = isinstance(error, TimeoutError) or os.path.isfile(path)
    if not is_remote(path) and not (is_told and is_silent):
        frames = (data or {}).get('frame_inds')
        reason = check_sample(dict(sample, frame_inds=frames), backend)
    return reason or (describe_error(error) if is_told else None)


def _is_about(error: Exception, sample: dict) -> bool:
    """Say whether an error is about reading the files of a sample."""
    kind = type(error).__module__.partition('.')[0]
    if kind not in READERS and not isinstance(error, (OSError, EOFError)):
        return False
    if is_exhausted(error):
        return False
    named, path = getattr(error, 'filename', None), path_of(sample)
    if is_remote(path) or not isinstance(named, (str, bytes)):
        return True
    # A transform may read files of its own, such as the mean of all images.
    named = os.path.realpath(os.fsdecode(named))
    texts = [x for x in (path, *sample.values()) if x and type(x) is str]
    own = [os.path.realpath(text) for text in texts]
    return named in own or named.startswith(os.path.realpath(path) + os.sep)


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
