"""Labels that a network does not have, or that mean something else."""

import shutil

import numpy as np
import pytest
from mmaction.datasets import VideoDataset
from mmengine.dataset import RepeatDataset
from mmpretrain.datasets import CustomDataset
from PIL import Image

from cgnl_mm.datasets.labels import (
    check_labels,
    compare_classes,
    count_classes,
    labels_of,
)
from cgnl_mm.errors import SetupError


@pytest.fixture
def folders(tmp_path):
    """Make a data set of the hosts with these class folders."""

    def make(names):
        shutil.rmtree(tmp_path / 'x', ignore_errors=True)
        for name in names:
            (tmp_path / 'x' / name).mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(tmp_path / 'x' / name / '0.png')
        return CustomDataset(data_prefix=str(tmp_path / 'x'), pipeline=[])

    return make


def test_label_that_the_network_lacks_is_named(folders):
    data_set = RepeatDataset(folders('abc'), 2)
    check_labels(data_set, 3, 'val')
    check_labels(data_set, 0, 'val')  # a head of another kind
    with pytest.raises(SetupError, match='val_data.*c/0.png is 2.* 0 to 1'):
        check_labels(data_set, 2, 'val')


def test_unknown_label_is_for_tests_alone(tmp_path):
    (tmp_path / 'a.txt').write_text('a.mp4 -1\n')
    data_set = VideoDataset(str(tmp_path / 'a.txt'), [])
    check_labels(data_set, 3, 'test')
    with pytest.raises(SetupError, match='label of a.mp4 is -1'):
        check_labels(data_set, 3, 'train')


def test_files_with_two_labels_are_named(tmp_path):
    lines = 'a.mp4 0', 'b.mp4 1', 'c.mp4 2', 'b.mp4 2', 'c.mp4 2', 'a.mp4 1'
    (tmp_path / 'a.txt').write_text('\n'.join(lines))
    data_set = RepeatDataset(VideoDataset(str(tmp_path / 'a.txt'), []), 2)
    (warning,) = check_labels(data_set, 3, 'train')
    told = 'train_dataloader: files that are listed again with other labels'
    assert warning == f'{told}: 2, such as b.mp4: [1], then [2]'
    (tmp_path / 'a.txt').write_text('\n'.join(lines[:3] * 2))
    assert check_labels(VideoDataset(str(tmp_path / 'a.txt'), []), 3, '') == []


def test_several_labels_of_a_sample():
    assert labels_of(dict(gt_label=[1, 4])) == [1, 4]
    assert labels_of(dict(gt_label=np.array([1, 4]))) == [1, 4]
    assert labels_of(dict(instances=[dict(bbox_label=2), {}])) == [2]


def test_classes_of_splits_and_of_a_checkpoint(folders):
    three, other, two = map(folders, ('abc', 'abd', 'ac'))
    assert not compare_classes(dict(train=three, val=three))
    (warning,) = compare_classes(dict(train=three, val=other))
    assert 'differ in c, d: do their labels mean the same' in warning
    known = dict(classes=('a', 'b', 'c'))
    assert compare_classes(dict(checkpoint=known, test=three)) == []
    with pytest.raises(SetupError, match='has 3 classes and test 2.* in b'):
        compare_classes(dict(checkpoint=known, test=two))


def test_number_of_classes_of_a_config():
    model = dict(
        data_preprocessor=dict(num_classes=9),
        rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=[dict(num_classes=80)]),
    )
    assert count_classes(model) == 80
    assert count_classes(dict(backbone=dict(num_classes=5))) == 0
