"""Annotation files on which a host would end in a traceback, or worse."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask

from cgnl_mm.datasets.prepare.annotations import (
    _decode,
    check_coco,
    check_list,
    read_json,
)
from cgnl_mm.errors import SetupError

PATH = Path('a.txt')
IMAGES, VIDEOS, FRAMES = 'CustomDataset', 'VideoDataset', 'RawframeDataset'
FORM = 'line 2: .* is not NAME'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('reader, line, said', [
    (IMAGES, b'', 'line 2: remove the blank line'),
    (IMAGES, b'b.png', FORM),
    (IMAGES, b'b.png\t1', FORM),
    (IMAGES, b'b.png cat', FORM),
    (IMAGES, b'b.png 1' + b'0' * 30, FORM),
    (IMAGES, b'b\0.png 1', FORM),
    (IMAGES, 'é.png 1'.encode('latin-1'), 'line 2: not UTF-8'),
    (VIDEOS, b'b.mp4', FORM),
    (VIDEOS, b'b.mp4\t1', FORM),
    (VIDEOS, b'a b.mp4 1', r"with spaces need delimiter=','"),
    (FRAMES, b'b 8', 'is not FOLDER FRAMES LABEL'),
    (FRAMES, b'a b 8 1', 'is not FOLDER FRAMES LABEL'),
    (FRAMES, b'b -8 1', 'is not FOLDER FRAMES LABEL'),
])  # fmt: skip
def test_broken_line_is_named(reader, line, said):
    first = b'a.png 1 0\n' if reader == FRAMES else b'a.png 0\n'
    PATH.write_bytes(first)
    check_list(PATH, reader)
    PATH.write_bytes(first + line + b'\n' + first)
    with pytest.raises(SetupError, match=f'a.txt, {said}|a.txt.*{said}'):
        check_list(PATH, reader)


def test_lists_of_other_forms():
    PATH.write_text('a b.mp4,1\n')
    check_list(PATH, VIDEOS, ',')
    PATH.write_text('a.mp4 1 4 7\n')
    check_list(PATH, VIDEOS, several=True)
    PATH.write_text('a.mp4\n')
    check_list(PATH, VIDEOS, unlabelled=True)
    PATH.write_text('a b.png 1\n')
    check_list(PATH, IMAGES)
    PATH.write_bytes('a.png 1\n'.encode('utf-16'))
    with pytest.raises(SetupError, match='line 1: not UTF-8'):
        check_list(PATH, IMAGES)
    PATH.write_text('')
    with pytest.raises(SetupError, match='a.txt is empty'):
        check_list(PATH, IMAGES)


BOX = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16)
COCO = dict(
    images=[dict(id=1, file_name='a.png', height=8, width=10)],
    annotations=[BOX, dict(BOX, id=2, category_id=2)],
    categories=[dict(id=1, name='a'), dict(id=2, name='b')],
)


@pytest.fixture
def check():
    """Change the first annotation, or others, and check the file."""

    def run(change=(), **parts):
        content = {**deepcopy(COCO), **parts}
        content['annotations'][0].update(change)
        PATH.write_text(json.dumps(content))
        return check_coco(PATH, ('a', 'b'))

    return run


COUNTS = 'the counts of its segmentation do not fill'


@pytest.mark.parametrize('change, said', [
    (dict(bbox=[1, 1, float('nan'), 2]), 'NaN is not a number'),
    (dict(bbox=[1, 1, 1e30, 2]), r'bbox \[.*\] is not x, y, width'),
    (dict(area=float('inf')), 'Infinity is not a number'),
    (dict(segmentation=[[1, 2, 1e18, 4, 5, 6]]), 'segmentation is neither'),
    (dict(segmentation=[[1, 2, 'x', 4, 5, 6]]), 'segmentation is neither'),
    (dict(segmentation=dict(size=[8, 10], counts=[5, 74])), COUNTS),
    (dict(segmentation=dict(size=[8, 10], counts=[-1, 81])), COUNTS),
    (dict(segmentation=dict(size=[8, 8], counts=[64])), COUNTS),
    (dict(segmentation=dict(size=[8, 10], counts='zzzz')), COUNTS),
])  # fmt: skip
def test_shape_that_would_end_the_process_is_refused(check, change, said):
    assert not check()
    with pytest.raises(SetupError, match=f'a.txt.*{said}'):
        check(change)


@pytest.mark.parametrize('change, why', [
    (dict(bbox=[1, 1, -4, 4]), 'of no area'),
    (dict(area=0), 'of no area'),
    (dict(bbox=[10, 1, 4, 4]), 'outside of the image'),
    (dict(bbox=[1, -4, 4, 4]), 'outside of the image'),
    (dict(category_id=3), 'of other categories'),
    (dict(image_id=9), 'of an unknown image'),
    (dict(ignore=True), 'to be ignored'),
])  # fmt: skip
def test_objects_that_mmdet_drops_are_counted(check, change, why):
    assert check(change) == f'a.txt: 1 of 2 objects are dropped: 1 {why}'


def test_labels_that_would_mean_something_else(check):
    names = COCO['categories']
    for other in (names[::-1], [names[0], dict(id=2, name='x')]):
        with pytest.raises(SetupError, match='labels the categories by their'):
            check(categories=other)
    for size in (dict(height=0), dict(width=-10)):
        image = dict(COCO['images'][0], **size)
        with pytest.raises(SetupError, match=r'images\[0\]: (hei|wid).* is '):
            check(images=[image])
    with pytest.raises(SetupError, match='no object is left: 2 of no area'):
        check(annotations=[dict(BOX, id=i, area=0) for i in (1, 2)])


def test_cut_file_is_named():
    PATH.write_text(json.dumps(COCO)[:-9])
    with pytest.raises(SetupError, match='a.txt is not a whole json file'):
        read_json(PATH)
    PATH.write_text(json.dumps(COCO), encoding='utf-8-sig')
    with pytest.raises(SetupError, match='line 1: remove the byte order'):
        read_json(PATH)


def test_masks_are_decoded_as_by_pycocotools():
    rng = np.random.default_rng(0)
    for share in (0.5, 0.02, 0):
        image = np.kron(rng.random((9, 7)) < share, np.ones((30, 1)))
        packed = mask.encode(np.asfortranarray(image, np.uint8))
        counts = _decode(packed['counts'].decode())
        rows = np.repeat(np.arange(len(counts)) % 2, counts)
        assert np.array_equal(rows.reshape(7, -1).T, image)
