"""A file reaches the network through the config's pipeline, as the picture."""

import numpy as np
import pytest
from demos import trained
from mmengine.config import Config
from PIL import Image

from cgnl_mm.errors import SetupError, UnreadableFileError
from cgnl_mm.visualization import find_blocks
from cgnl_mm.visualization.groups import draw_groups
from cgnl_mm.visualization.inputs import follow, load_sample, look
from cgnl_mm.visualization.maps import draw_maps, read_point


@pytest.mark.parametrize('name', [
    'r18_cgnl_digits', 'mask_rcnn_r18_fpn_cgnl_digitscenes'
])  # fmt: skip
def test_frame_is_the_file(name, tmp_path):
    """RGB again, and without the padding that the maps cover."""
    cfg, model = trained(name)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    blocks = find_blocks(model)
    seen = look(model, cfg, blocks, tmp_path / 'a.png')
    assert seen.size == ((128, 120) if name[0] == 'r' else (128, 128))
    assert np.array_equal(seen.frames[0], pixels)
    assert seen.blocks.keys() == blocks.keys()


@pytest.fixture
def followed(tmp_path):
    """Follow a point of an 80 x 40 image through a pipeline of mmpretrain."""
    Image.new('RGB', (80, 40)).save(tmp_path / 'a.png')

    def run(point, *steps):
        pipeline = [dict(type='LoadImageFromFile'), *steps]
        pipeline.append(dict(type='PackInputs'))
        data = dict(dataset=dict(pipeline=pipeline))
        cfg = Config(dict(default_scope='mmpretrain', test_dataloader=data))
        return follow(cfg, tmp_path / 'a.png', point)

    return run


CROP = dict(type='CenterCrop', crop_size=20)


@pytest.mark.parametrize('steps, point, found, off', [
    ([], (79, 0), (79, 0), 0),
    # 80 x 40 to 160 x 80: of the pixel's four, the first
    ([dict(type='Resize', scale=(160, 80))], (10, 20), (20, 40), 1),
    ([dict(type='Resize', scale=(20, 10))], (41, 22), (10, 5), 1),
    ([CROP], (35, 12), (5, 2), 0),
    ([dict(type='ResizeEdge', scale=20), CROP], (40, 20), (10, 10), 1),
])  # fmt: skip
def test_point_of_the_file_is_followed(followed, steps, point, found, off):
    at = followed(point, *steps)
    assert max(abs(a - b) for a, b in zip(at, found)) <= off


@pytest.mark.parametrize('point, step, message', [
    ((10, 20), CROP, 'gets x 30 to 49, y 10 to 29 of'),
    ((80, 20), CROP, 'has 80 x 40 pixels'),
    # PIL takes no coordinates
    ((10, 20), dict(type='ResizeEdge', scale=20, backend='pillow'),
     'cannot be followed through this'),
])  # fmt: skip
def test_point_that_the_network_does_not_get(followed, point, step, message):
    with pytest.raises(SetupError, match=message):
        followed(point, step)


def test_what_does_not_fit(tmp_path):
    cfg, model = trained('r18_cgnl_digits')
    (tmp_path / 'a.png').write_text('not a picture')
    with pytest.raises(UnreadableFileError, match='cannot be read as an im'):
        load_sample(cfg, tmp_path / 'a.png')
    with pytest.raises(SetupError, match='has no test pipeline'):
        load_sample(Config(dict(default_scope='mmdet')), tmp_path / 'a.png')
    for count in (0, -1):
        with pytest.raises(SetupError, match='--dataset takes a positive'):
            draw_groups(model, cfg, count, tmp_path)
    with pytest.raises(SetupError, match='--fps takes a number up to'):
        draw_maps(model, cfg, tmp_path / 'a.png', tmp_path, fps=0)
    _, plain = trained('r18_digits')
    with pytest.raises(SetupError, match='no CGNL or non-local block'):
        draw_maps(plain, cfg, tmp_path / 'a.png', tmp_path)


def test_point_is_read():
    assert read_point('3,4') == (3, 4) and read_point('3,4,1') == (3, 4, 1)
    for text in ('3', '3,4,5,6', 'a,b'):
        with pytest.raises(SetupError, match='takes X,Y or X,Y,T'):
            read_point(text)
