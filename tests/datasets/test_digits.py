import cv2
import numpy as np
import pytest

from cgnl_mm.datasets.digits import enlarge, prepare_digits
from cgnl_mm.datasets.generate import load_split

READ = [dict(type='LoadImageFromFile')]


def test_files_hold_the_digits_by_their_label(tmp_path, build):
    for split in ('train', 'test'):
        dataset = build(
            'mmpretrain', 'Digits', tmp_path / 'd', split=split, pipeline=READ
        )
        images, labels = load_split(split)
        expected = {
            (int(label), enlarge(image, 32).tobytes())
            for image, label in zip(images, labels)
        }
        found = {
            (int(sample['gt_label']), sample['img'][..., 0].tobytes())
            for sample in dataset
        }
        assert len(dataset) == len(images)
        assert found == expected


def test_size_is_an_option(tmp_path):
    prepare_digits(tmp_path / 'd', size=20)
    image = cv2.imread(str(next((tmp_path / 'd').rglob('*.png'))))
    assert image.shape == (20, 20, 3)
    with pytest.raises(ValueError, match='got 7'):
        prepare_digits(tmp_path / 'e', size=7)


def test_split_is_checked(tmp_path, build):
    with pytest.raises(ValueError, match="got 'val'"):
        build('mmpretrain', 'Digits', tmp_path, split='val', pipeline=READ)


def test_enlarged_digits_stay_apart():
    """Enlarging keeps what the classes need: nearest neighbours agree."""
    from sklearn.neighbors import KNeighborsClassifier

    train, test = (load_split(split) for split in ('train', 'test'))
    big = [
        np.stack([enlarge(i, 32).ravel() for i in images])
        for images, _ in (train, test)
    ]
    nearest = KNeighborsClassifier(1).fit(big[0], train[1])
    assert nearest.score(big[1], test[1]) > 0.95
