"""A file reaches the network through the config's pipeline, as the picture."""

import numpy as np
import pytest
from demos import trained
from mmengine.config import Config
from PIL import Image

from cgnl_mm.errors import SetupError, UnreadableFileError
from cgnl_mm.visualization import find_blocks
from cgnl_mm.visualization.groups import print_groups
from cgnl_mm.visualization.inputs import load_sample, look
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
    seen = look(model, cfg, blocks, load_sample(cfg, tmp_path / 'a.png'))
    assert seen.size == ((128, 120) if name[0] == 'r' else (128, 128))
    assert np.array_equal(seen.frames[0], pixels)
    assert seen.blocks.keys() == blocks.keys()


def test_what_does_not_fit(tmp_path):
    cfg, model = trained('r18_cgnl_digits')
    (tmp_path / 'a.png').write_text('not a picture')
    with pytest.raises(UnreadableFileError, match='cannot be read as an im'):
        load_sample(cfg, tmp_path / 'a.png')
    index = b'\0\0\0\x14stco\0\0\0\0\0\0\0\1\xff\xff\xff\xff'
    (tmp_path / 'a.mp4').write_bytes(b'\0\0\0\x08free' + index)
    videos, _ = trained('i3d_r18_cgnl_movingdigits')
    with pytest.raises(UnreadableFileError, match='it leads behind the end'):
        load_sample(videos, tmp_path / 'a.mp4')  # decord would die
    with pytest.raises(SetupError, match='has no test pipeline'):
        load_sample(Config(dict(default_scope='mmdet')), tmp_path / 'a.png')
    for count in (0, -1):
        with pytest.raises(SetupError, match='--dataset takes a positive'):
            print_groups(model, cfg, count)
    _, plain = trained('r18_digits')
    with pytest.raises(SetupError, match='no CGNL block with attention in'):
        draw_maps(plain, cfg, tmp_path / 'a.png', tmp_path)


def test_point_is_read():
    assert read_point('3,4') == (3, 4) and read_point('3,4,1') == (3, 4, 1)
    for text in ('3', '3,4,5,6', 'a,b'):
        with pytest.raises(SetupError, match='takes X,Y or X,Y,T'):
            read_point(text)
