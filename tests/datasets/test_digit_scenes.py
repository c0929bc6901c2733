import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cgnl_mm.datasets.digit_scenes import STROKE, prepare_digit_scenes
from cgnl_mm.datasets.digits import enlarge
from cgnl_mm.datasets.generate import load_split

SMALL = dict(num_train=12, num_test=6)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digitscenes'
    prepare_digit_scenes(root, **SMALL)
    return root


def test_masks_lie_on_the_digits(root):
    """Ink is brighter than ground; masks of one scene do not overlap."""
    content = json.loads((root / 'train.json').read_text())
    assert [c['name'] for c in content['categories']] == list('0123456789')
    for scene in content['images']:
        image = cv2.imread(str(root / 'train' / scene['file_name']))
        masks = []
        for annotation in content['annotations']:
            if annotation['image_id'] != scene['id']:
                continue
            mask = coco_mask.decode(annotation['segmentation']).astype(bool)
            x, y, w, h = map(int, annotation['bbox'])
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min()) == (x, y)
            assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (w, h)
            assert annotation['area'] == mask.sum()
            masks.append(mask)
        assert 1 <= len(masks) <= 6
        assert np.stack(masks).sum(0).max() == 1
        ground = image[~np.stack(masks).any(0)].astype(int).mean()
        for mask in masks:
            assert image[mask].astype(int).mean() > ground + 20


def test_category_is_the_digit_in_the_box(root):
    """Masks look like the digits that their categories name."""
    from sklearn.neighbors import KNeighborsClassifier

    def inside_box(mask):
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cv2.resize(mask.astype(np.float32), (12, 12)).ravel()

    images, labels = load_split('train')
    shapes = [inside_box(enlarge(image, 32) >= STROKE) for image in images]
    nearest = KNeighborsClassifier(1).fit(shapes, labels)
    truth = COCO(str(root / 'train.json'))
    annotations = truth.loadAnns(truth.getAnnIds())
    names = [truth.cats[a['category_id']]['name'] for a in annotations]
    masks = [truth.annToMask(a).astype(bool) for a in annotations]
    found = nearest.predict([inside_box(mask) for mask in masks])
    assert np.mean(found == np.array(names, int)) > 0.8  # some are half hidden


def test_same_options_same_scenes(tmp_path, root, digest):
    prepare_digit_scenes(tmp_path / 'd', **SMALL)
    first, again = digest(root), digest(tmp_path / 'd')
    assert first == again
    # no two scenes are the same
    assert len(first) == len({*first.values()}) == 12 + 6 + 3


def test_mmdet_reads_boxes_labels_and_masks(root, build):
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    ]
    dataset = build(
        'mmdet', 'DigitScenes', root, split='test', pipeline=pipeline, **SMALL
    )
    truth = COCO(str(root / 'test.json'))
    assert len(dataset) == 6
    for index in range(6):
        sample = dataset[index]
        expected = truth.imgToAnns[sample['img_id']]
        labels = [a['category_id'] - 1 for a in expected]
        assert sample['gt_bboxes_labels'].tolist() == labels
        areas = sample['gt_masks'].areas.tolist()
        assert areas == [a['area'] for a in expected]
