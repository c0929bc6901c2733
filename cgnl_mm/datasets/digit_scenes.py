"""digitscenes: several digits on a canvas, with boxes and masks (COCO).

``python -m cgnl_mm.datasets.digit_scenes ROOT`` writes them by hand.
"""

import json
from pathlib import Path

import numpy as np

from ..errors import SetupError
from .digits import CLASSES, enlarge, write_png
from .generate import check_least, load_split, run_from_shell, write_splits

MIN_VISIBLE = 0.5  # share of each digit that the later ones leave
STROKE = 64  # grey value from which a pixel belongs to the digit


def prepare_digit_scenes(
    root: str,
    num_train: int = 300,
    num_test: int = 60,
    size: int = 128,
    max_digits: int = 6,
    seed: int = 0,
) -> None:
    """Write ``{train,test}/*.png`` and ``{train,test}.json`` to ``root``.

    For each scene 2 to ``max_digits`` digits of 24 to 40 pixels are drawn, in
    colour, on a coloured, noisy ground. Later digits hide earlier ones: masks
    and boxes cover what is visible, and a digit that would leave less than
    half of another visible is left out.

    Args:
        root (str): Folder to write.
        num_train (int): Number of training scenes. Defaults to 300.
        num_test (int): Number of test scenes. Defaults to 60.
        size (int): Height and width in pixels, at least 64.
            Defaults to 128.
        max_digits (int): Most digits in a scene, at least 2. Defaults to 6.
        seed (int): Of all that is random. Defaults to 0.

    Raises:
        ValueError: If an option is out of range.
        SetupError: If ``root`` holds something else.
    """
    check_least(64, size=size)
    check_least(2, max_digits=max_digits)
    write_splits(
        root,
        'digitscenes',
        _write_split,
        num_train,
        num_test,
        seed,
        size=size,
        max_digits=max_digits,
    )


def compose(
    images: np.ndarray,
    labels: np.ndarray,
    size: int,
    max_digits: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Compose one scene.

    Args:
        images (ndarray): Digits to choose from, (N, 8, 8), uint8.
        labels (ndarray): Their labels, (N,).
        size (int): Height and width of the scene in pixels.
        max_digits (int): Most digits in it.
        rng (Generator): Source of randomness.

    Returns:
        tuple[ndarray, list]: The image (size, size, 3), BGR, uint8, and for
        each digit its label and its visible mask (size, size), bool.
    """
    ground = rng.uniform(0, 90, 3)
    scene = ground + rng.normal(0, 12, (size, size, 3))
    placed: list[tuple[int, np.ndarray]] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(2, max_digits + 1))):
        index = int(rng.integers(len(images)))
        side = int(rng.integers(24, 41))
        stamp = enlarge(images[index], side).astype(float)
        y, x = rng.integers(0, size - side + 1, 2)
        mask = np.zeros((size, size), bool)
        mask[y : y + side, x : x + side] = stamp >= STROKE
        visible = [other & ~mask for _, other in placed]
        if any(
            seen.sum() < MIN_VISIBLE * area
            for seen, area in zip(visible, areas)
        ):
            continue
        placed = [(label, seen) for (label, _), seen in zip(placed, visible)]
        placed.append((int(labels[index]), mask))
        areas.append(int(mask.sum()))
        colour = ground + rng.uniform(80, 160, 3)
        alpha = (stamp / 255)[..., None]
        alpha = np.clip(alpha * 1.5, 0, 1)
        patch = scene[y : y + side, x : x + side]
        patch[:] = alpha * colour + (1 - alpha) * patch
    return np.clip(np.round(scene), 0, 255).astype(np.uint8), placed


def _write_split(
    folder: Path, split: str, number: int, rng: np.random.Generator, **options
) -> None:
    """Write the scenes and the COCO json of one split."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise SetupError(
            'digitscenes are written with pycocotools: run '
            '`pip install pycocotools`'
        ) from error

    (folder / split).mkdir()
    images, labels = load_split(split)
    size = options['size']
    scenes, annotations = [], []
    for index in range(number):
        image, placed = compose(images, labels, rng=rng, **options)
        name = f'{index:05d}.png'
        write_png(folder / split / name, image)
        scenes.append(
            dict(id=index + 1, file_name=name, height=size, width=size)
        )
        for label, mask in placed:
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            box = coco_mask.toBbox(rle).tolist()
            rle['counts'] = rle['counts'].decode('ascii')
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=label + 1,
                    bbox=box,
                    area=int(mask.sum()),
                    iscrowd=0,
                    segmentation=rle,
                )
            )
    categories = [
        dict(id=index + 1, name=name) for index, name in enumerate(CLASSES)
    ]
    content = dict(
        info=dict(description='digitscenes, generated by cgnl_mm'),
        images=scenes,
        annotations=annotations,
        categories=categories,
    )
    (folder / f'{split}.json').write_text(json.dumps(content))


if __name__ == '__main__':
    run_from_shell(prepare_digit_scenes)
