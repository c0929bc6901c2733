"""digits: image classification, handwritten digits as png files."""

from pathlib import Path

import numpy as np

from .generate import load_split, write_once

CLASSES = tuple('0123456789')


def prepare_digits(root: str, size: int = 32) -> None:
    """Write ``{train,test}/LABEL/INDEX.png`` to ``root``, once.

    The images are scikit-learn's digits of 8x8, enlarged bilinearly: 1,287
    for training and the last quarter, 450 of other writers' runs, for the
    test.

    Args:
        root (str): Folder to write.
        size (int): Height and width in pixels. Defaults to 32.

    Raises:
        SetupError: If ``root`` holds something else.
    """
    options = dict(dataset='digits', size=size)
    write_once(root, options, lambda folder: _write_images(folder, size))


def _write_images(folder: Path, size: int) -> None:
    """Write the images of both splits into a folder for each class."""
    for split in ('train', 'test'):
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(*load_split(split))):
            path = folder / split / str(label) / f'{index:04d}.png'
            write_png(path, enlarge(image, size))


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square grey image (h, h), uint8, to (size, size)."""
    import cv2

    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a grey (h, w) or BGR (h, w, 3) image, uint8."""
    import cv2

    if not cv2.imwrite(str(path), image):
        raise OSError(f'could not write {path}')
