"""Repair colour jitter with a negative hue on numpy 2.

Symptom: ``OverflowError: Python integer -11 out of bounds for uint8`` in
about half of the samples, from ``ColorJitter(hue=...)`` of mmpretrain (in
``mmcv.adjust_hue``) and of mmaction2.

Versions: numpy >= 2 with mmcv <= 2.2.0 and mmaction2 <= 1.2.0: both count
on Python integers to wrap around in, or to widen, an array of uint8.

Upstream: https://github.com/VBTI-development/onedl-mmcv/pull/41 (the fork)

Cure: a negative shift of the hue is computed with explicit types, giving
what numpy 1 gave.

Delete when: mmcv wraps the hue explicitly, as its fork does.
"""

import functools
import importlib.util
import sys
from typing import Optional

import numpy as np

from .after_import import after_import
from .workaround import Workaround


def not_needed() -> Optional[str]:
    try:
        np.uint8(-1)
    except OverflowError:
        pass
    else:
        return f'numpy {np.__version__} wraps negative integers'
    if importlib.util.find_spec('mmcv') is None:
        return 'mmcv is not installed'
    return None


def _shift_hue(img: np.ndarray, shift: int, backend: str) -> np.ndarray:
    """Turn the hue of an image by ``shift`` / 256 of the circle.

    Args:
        img (ndarray): (H, W, 3), BGR, 0 to 255.
        shift (int): Modulo 256.
        backend (str): 'cv2' or 'pillow', whose conversions differ a little.

    Returns:
        ndarray: (H, W, 3), BGR, of the dtype of img.
    """
    # arrays of uint8 wrap around, as a hue must
    shift = np.uint8(shift % 256)
    if backend == 'pillow':
        from PIL import Image

        hsv = np.array(Image.fromarray(img[..., ::-1]).convert('HSV'))
        hsv[..., 0] += shift
        rgb = Image.fromarray(hsv, 'HSV').convert('RGB')
        return np.array(rgb, dtype=img.dtype)[..., ::-1]
    import cv2

    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += shift
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)


def mend_mmcv(photometric) -> None:
    """Replace ``mmcv.adjust_hue`` wherever mmcv has put it."""
    original = photometric.adjust_hue
    try:
        original(np.zeros((1, 1, 3), np.uint8), -0.1, 'cv2')
        return  # OneDL has mended it
    except OverflowError:
        pass

    @functools.wraps(original)
    def adjust_hue(img, hue_factor, backend=None):
        used = backend or photometric.imread_backend
        if (
            -0.5 <= hue_factor < 0
            and getattr(img, 'ndim', None) == 3
            and (used == 'cv2' or used == 'pillow' and img.dtype == np.uint8)
        ):
            return _shift_hue(img, int(hue_factor * 255), used)
        # what it can do, and its errors
        return original(img, hue_factor, backend)

    for name in ('mmcv', 'mmcv.image', 'mmcv.image.photometric'):
        module = sys.modules.get(name)
        if getattr(module, 'adjust_hue', None) is original:
            module.adjust_hue = adjust_hue


def mend_mmaction(processing) -> None:
    """Replace ``ColorJitter.adjust_hue`` of mmaction2."""
    original = processing.ColorJitter.adjust_hue

    def adjust_hue(img, factor):
        offset = int(factor * 255)
        if offset >= 0:
            return original(img, factor)
        import cv2

        img = np.clip(img, 0, 255).astype(np.uint8)
        hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
        # OpenCV's hue of uint8 images is in [0, 180)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + offset) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    processing.ColorJitter.adjust_hue = staticmethod(adjust_hue)


def apply() -> None:
    after_import('mmcv.image.photometric', mend_mmcv)
    after_import('mmaction.datasets.transforms.processing', mend_mmaction)


WORKAROUND = Workaround(
    name='numpy_hue',
    symptom='OverflowError: Python integer -11 out of bounds for uint8',
    versions='numpy >= 2 with mmcv <= 2.2.0 and mmaction2 <= 1.2.0',
    upstream='https://github.com/VBTI-development/onedl-mmcv/pull/41',
    not_needed=not_needed,
    apply=apply,
)
