"""Data sets of mmpretrain."""

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

from .digits import CLASSES, prepare_digits
from .generate import check_split


@DATASETS.register_module()
class Digits(CustomDataset):
    """Handwritten digits, 10 classes; written where they do not exist.

    Args:
        pipeline (list): Transforms.
        split (str): 'train' (1,287 images) or 'test' (450, by other
            writers' runs). Defaults to 'train'.
        data_root (str): Folder of the data set, made on first use.
            Defaults to 'data/digits'.
        size (int): Height and width in pixels. Defaults to 32.
        **kwargs: Other arguments of CustomDataset (``test_mode``, ...).

    Raises:
        SetupError: If ``data_root`` holds something else.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/digits',
        size: int = 32,
        **kwargs,
    ) -> None:
        check_split(split)
        prepare_digits(data_root, size)
        super().__init__(
            data_root=data_root,
            data_prefix=split,
            pipeline=pipeline,
            **kwargs,
        )
