"""digits: image classification, handwritten digits as png files.

``python -m cgnl_mm.datasets.digits ROOT`` writes them by hand.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .generate import check_least, load_split, run_from_shell, write_once

CLASSES = tuple('0123456789')


def prepare_digits(root: str, size: int = 32) -> None:
    """Write ``{train,test}/LABEL/INDEX.png`` to ``root``, once.

    The images are scikit-learn's digits of 8x8, enlarged bilinearly: 1,287
    for training and the last quarter, 450 of other writers' runs, for the
    test.

    Args:
        root (str): Folder to write.
        size (int): Height and width in pixels, at least 8. Defaults to 32.

    Raises:
        ValueError: If the size is too small.
        SetupError: If ``root`` holds something else.
    """
    check_least(8, size=size)
    options = dict(dataset='digits', size=size)
    write_once(
        root, options, lambda folder: write_images(folder, load_split, size)
    )


def write_images(
    folder: Path,
    load: Callable[[str], tuple[np.ndarray, np.ndarray]],
    size: int,
) -> None:
    """Write the images of both splits into a folder for each class.

    Args:
        folder (Path): Folder to write.
        load (Callable): Returns images and labels of a split by its name.
        size (int): Height and width in pixels.
    """
    for split in ('train', 'test'):
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(*load(split))):
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


if __name__ == '__main__':
    run_from_shell(prepare_digits)
