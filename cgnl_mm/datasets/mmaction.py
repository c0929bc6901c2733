"""Data sets and transforms of mmaction2."""

import os.path as osp
from importlib import import_module

import numpy as np
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import SetupError
from .generate import check_split
from .moving_digits import CLASSES, prepare_moving_digits
from .relations import class_names, prepare_relations

_DECODERS = {'decord': 'Decord', 'av': 'PyAV'}


def _decoder() -> str:
    """Prefix of mmaction2's transforms for the decoder that is installed."""
    for package, prefix in _DECODERS.items():
        try:
            import_module(package)
        except Exception:  # absent, or installed and broken
            continue
        return prefix
    raise SetupError(
        'no video decoder is installed: run `pip install decord`, or '
        '`pip install av` where decord has no wheel'
    )


class VideoStep(BaseTransform):
    """A transform of mmaction2 for the decoder that is installed.

    Attributes:
        name (str): Name of the transform without the decoder's.

    Raises:
        SetupError: If no decoder is installed.
    """

    name: str

    def __init__(self) -> None:
        cfg = dict(type=f'mmaction.{_decoder()}{self.name}')
        self.step = TRANSFORMS.build(cfg)

    def transform(self, results: dict) -> dict:
        return self.step(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.step!r})'


@TRANSFORMS.register_module()
class VideoInit(VideoStep):
    """Open a video with decord, or with PyAV where decord is missing.

    Required keys: ``filename``. Added keys: ``video_reader``,
    ``total_frames``.

    Raises:
        SetupError: If neither decoder is installed.
    """

    name = 'Init'


@TRANSFORMS.register_module()
class VideoDecode(VideoStep):
    """Decode the frames ``frame_inds`` of what :class:`VideoInit` opened.

    Required keys: ``video_reader``, ``frame_inds``. Added keys: ``imgs``
    (list of (H, W, 3) RGB, uint8), ``img_shape``, ``original_shape``.
    """

    name = 'Decode'


@TRANSFORMS.register_module()
class VideoCache(BaseTransform):
    """Decode a whole video once in a process, and keep its frames in memory.

    It is for data sets of short clips. ``SampleFrames`` and ``ArrayDecode``
    of mmaction2 follow it in a pipeline.

    Required keys: ``filename``. Added keys: ``array`` (frames (T, H, W, 3),
    RGB, uint8), ``total_frames``.

    Raises:
        SetupError: If no decoder is installed.
    """

    def __init__(self) -> None:
        self.steps = VideoInit(), VideoDecode()
        self.frames = {}

    def transform(self, results: dict) -> dict:
        path = results['filename']
        if path not in self.frames:
            init, decode = self.steps
            video = init({'filename': path})
            video['frame_inds'] = np.arange(video['total_frames'])
            self.frames[path] = np.stack(decode(video)['imgs'])
        array = self.frames[path]
        return {**results, 'array': array, 'total_frames': len(array)}


def _files(data_root: str, split: str) -> dict:
    return dict(
        ann_file=osp.join(data_root, f'{split}.txt'),
        data_prefix=dict(video=data_root),
    )


@DATASETS.register_module()
class MovingDigits(VideoDataset):
    """Two moving digits, 9 classes; generated where it does not exist.

    See :mod:`cgnl_mm.datasets.moving_digits` for what the classes are.

    Args:
        pipeline (list): Transforms. A flip would change no class, time
            reversal would.
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder of the data set, made on first use.
            Defaults to 'data/movingdigits'.
        num_train (int): Number of training clips. Defaults to 1200.
        num_test (int): Number of test clips. Defaults to 300.
        size (int): Height and width in pixels, 32 or 64. Defaults to 64.
        num_frames (int): Frames of a clip. Defaults to 16.
        stand (float): Share of the clip that the digits stand at each end;
            the smaller, the harder. Defaults to 0.125.
        **kwargs: Other arguments of VideoDataset (``test_mode``, ...).

    Raises:
        SetupError: If ``data_root`` holds something else, or PyAV is missing.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/movingdigits',
        num_train: int = 1200,
        num_test: int = 300,
        size: int = 64,
        num_frames: int = 16,
        stand: float = 0.125,
        **kwargs,
    ) -> None:
        check_split(split)
        prepare_moving_digits(
            data_root, num_train, num_test, size, num_frames, stand
        )
        super().__init__(
            pipeline=pipeline, **_files(data_root, split), **kwargs
        )


@DATASETS.register_module()
class Relations(VideoDataset):
    """Digits at the two ends of a clip; generated where it does not exist.

    See :mod:`cgnl_mm.datasets.relations` for the tasks and their classes.

    Args:
        pipeline (list): Transforms.
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder of the data set, made on first use.
            Defaults to 'data/relations'.
        task (str): 'same', 'cue' or 'digit'. Defaults to 'same'.
        num_train (int): Number of training clips. Defaults to 6000.
        num_test (int): Number of test clips. Defaults to 600.
        num_digits (int): Digits in use, 2 to 10. Defaults to 10.
        num_cues (int): Cues of the task 'cue'. Defaults to 2.
        size (int): Height and width in pixels, 32 or 64. Defaults to 32.
        num_frames (int): Frames of a clip. Defaults to 3.
        gap (int): Frames between the two parts. Defaults to 1.
        **kwargs: Other arguments of VideoDataset (``test_mode``, ...).

    Raises:
        SetupError: If ``data_root`` holds something else, or PyAV is missing.
    """

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/relations',
        task: str = 'same',
        num_train: int = 6000,
        num_test: int = 600,
        num_digits: int = 10,
        num_cues: int = 2,
        size: int = 32,
        num_frames: int = 3,
        gap: int = 1,
        **kwargs,
    ) -> None:
        check_split(split)
        numbers = num_digits, num_cues, size, num_frames, gap
        prepare_relations(data_root, num_train, num_test, task, *numbers)
        super().__init__(
            pipeline=pipeline,
            metainfo=dict(classes=class_names(task, num_digits)),
            **_files(data_root, split),
            **kwargs,
        )
