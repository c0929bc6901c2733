"""Data sets of mmdet."""

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .digit_scenes import prepare_digit_scenes
from .digits import CLASSES
from .generate import check_split


@DATASETS.register_module()
class DigitScenes(CocoDataset):
    """Scenes of several digits with boxes and masks, 10 classes.

    See :mod:`cgnl_mm.datasets.digit_scenes`; written where it does not exist.

    Args:
        pipeline (list): Transforms.
        split (str): 'train' or 'test'. Defaults to 'train'.
        data_root (str): Folder of the data set, made on first use.
            Defaults to 'data/digitscenes'.
        num_train (int): Number of training scenes. Defaults to 300.
        num_test (int): Number of test scenes. Defaults to 60.
        size (int): Height and width in pixels. Defaults to 128.
        **kwargs: Other arguments of CocoDataset (``test_mode``,
            ``filter_cfg``, ...).

    Raises:
        SetupError: If ``data_root`` holds something else.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/digitscenes',
        num_train: int = 300,
        num_test: int = 60,
        size: int = 128,
        **kwargs,
    ) -> None:
        check_split(split)
        prepare_digit_scenes(data_root, num_train, num_test, size)
        super().__init__(
            data_root=data_root,
            ann_file=f'{split}.json',
            data_prefix=dict(img=f'{split}/'),
            pipeline=pipeline,
            **kwargs,
        )
