import cv2
import numpy as np
import pytest
from PIL import Image

from cgnl_mm import compat

compat.apply()
mmcv = pytest.importorskip('mmcv')


def picture():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('factor', [-0.5, -0.1, -0.003])
def test_mmcv_negative_hue(backend, factor):
    """A turn to the left is the rest of the circle to the right."""
    image = picture()
    before = image.copy()
    left = mmcv.adjust_hue(image, factor, backend=backend)
    assert left.dtype == np.uint8 and np.array_equal(image, before)

    # two turns to the right that together make the same one
    shift = 256 + int(factor * 255)
    if backend == 'cv2':
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    else:
        hsv = np.array(Image.fromarray(image[..., ::-1]).convert('HSV'))
    hsv[..., 0] = (hsv[..., 0].astype(int) + shift) % 256
    if backend == 'cv2':
        right = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)
    else:
        right = np.array(Image.fromarray(hsv, 'HSV').convert('RGB'))[..., ::-1]
    assert np.array_equal(left, right)
    if int(factor * 255):
        assert not np.array_equal(left, before)


def test_mmcv_keeps_its_errors():
    with pytest.raises(ValueError, match='hue_factor'):
        mmcv.adjust_hue(picture(), -0.6)
    with pytest.raises(ValueError, match='backend'):
        mmcv.adjust_hue(picture(), -0.1, backend='tifffile')
    with pytest.raises(TypeError):
        mmcv.adjust_hue([1, 2, 3], -0.1)


def test_mmaction_negative_hue():
    processing = pytest.importorskip('mmaction.datasets.transforms.processing')
    image = picture()
    out = processing.ColorJitter.adjust_hue(image.astype(np.float32), -0.1)
    assert out.dtype == np.float32
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] - 25) % 180
    wanted = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    assert np.array_equal(out, wanted)
