"""Repair colour jitter with a negative hue on numpy 2.

Symptom: ``OverflowError: Python integer -11 out of bounds for uint8`` in
about half of the samples, from ``ColorJitter(hue=...)`` of mmpretrain (in
``mmcv.adjust_hue``) and of mmaction2.

Versions: numpy >= 2 with mmcv <= 2.2.0 and mmaction2 <= 1.2.0: both count
on Python integers to wrap around in, or to widen, an array of uint8.

Upstream: https://github.com/VBTI-development/onedl-mmcv/pull/41 (the fork)

Cure: mmcv gets a factor whose shift is counted modulo 256, and mmaction2's
negative shift is added in a wider type, giving what numpy 1 gave.

Delete when: mmcv wraps the hue explicitly, as its fork does.
"""

import functools
from typing import Optional

from .imports import after_import, replace

PACKAGE = 'mmcv'


def not_needed() -> Optional[str]:
    import numpy as np  # PyTorch alone comes without it

    if np.lib.NumpyVersion(np.__version__) < '2.0.0':
        return f'numpy {np.__version__} wraps negative integers'
    return None


class _Turn(float):
    """A hue factor whose product with 255 is the one that uint8 holds."""

    def __mul__(self, other: int) -> int:
        return int(float(self) * other) % 256


def mend_mmcv(photometric) -> None:
    """Replace ``mmcv.adjust_hue`` wherever mmcv has put it."""
    original = photometric.adjust_hue

    @functools.wraps(original)
    def adjust_hue(img, hue_factor, backend=None):
        return original(img, _Turn(hue_factor), backend)

    replace(original, adjust_hue)


def mend_mmaction(processing) -> None:
    """Replace ``ColorJitter.adjust_hue`` of mmaction2."""
    original = processing.ColorJitter.adjust_hue

    def adjust_hue(img, factor):
        offset = int(factor * 255)
        if offset >= 0:
            return original(img, factor)
        import cv2
        import numpy as np

        img = np.clip(img, 0, 255).astype(np.uint8)
        hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
        # OpenCV's hue of uint8 images is in [0, 180)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + offset) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    processing.ColorJitter.adjust_hue = staticmethod(adjust_hue)


def apply() -> None:
    after_import('mmcv.image.photometric', mend_mmcv)
    after_import('mmaction.datasets.transforms.processing', mend_mmaction)
