"""Data sets and transforms of mmaction2."""

import os.path as osp
from importlib import import_module

from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform

from ..errors import SetupError
from .generate import check_split
from .mini_kinetics import MiniKinetics
from .moving_digits import CLASSES, prepare_moving_digits

__all__ = ['MiniKinetics', 'MovingDigits', 'VideoDecode', 'VideoInit']

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

    Args:
        name (str): Name of the transform without the decoder's.
        **settings: Arguments of the transform.

    Raises:
        SetupError: If no decoder is installed.
    """

    def __init__(self, name: str, **settings) -> None:
        prefix = _decoder()
        if prefix != 'Decord':
            settings.pop('num_threads', None)
        cfg = dict(settings, type=f'mmaction.{prefix}{name}')
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

    Args:
        io_backend (str): Storage backend of the files. Defaults to 'disk'.
        num_threads (int): Decoding threads (decord only). Defaults to 1.

    Raises:
        SetupError: If neither decoder is installed.
    """

    def __init__(self, io_backend: str = 'disk', num_threads: int = 1) -> None:
        super().__init__(
            'Init', io_backend=io_backend, num_threads=num_threads
        )


@TRANSFORMS.register_module()
class VideoDecode(VideoStep):
    """Decode the frames ``frame_inds`` of what :class:`VideoInit` opened.

    Required keys: ``video_reader``, ``frame_inds``. Added keys: ``imgs``
    (list of (H, W, 3) RGB, uint8), ``img_shape``, ``original_shape``.
    """

    def __init__(self) -> None:
        super().__init__('Decode')


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
        seed (int): Of the generation. Defaults to 0.
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
        seed: int = 0,
        **kwargs,
    ) -> None:
        check_split(split)
        prepare_moving_digits(
            data_root, num_train, num_test, size, num_frames, stand, seed
        )
        super().__init__(
            ann_file=osp.join(data_root, f'{split}.txt'),
            pipeline=pipeline,
            data_prefix=dict(video=data_root),
            **kwargs,
        )
