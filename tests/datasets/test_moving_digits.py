import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from cgnl_mm.datasets.moving_digits import (
    CLASSES,
    RELATIONS,
    prepare_moving_digits,
    sample_paths,
)
from cgnl_mm.errors import SetupError

SIZE = 64
STAND = 0.125
NUM_CLASSES = len(CLASSES)
SMALL = dict(num_train=18, num_test=9, num_frames=8)


@pytest.fixture(scope='module')
def truth():
    """Paths of many clips as angles on the torus, (N, digit, T, 4)."""
    rng = np.random.default_rng(0)
    labels = np.arange(3600) % NUM_CLASSES
    paths = np.stack([sample_paths(rng, k, SIZE, 16, STAND) for k in labels])
    return paths, labels


def on_circle(positions):
    angles = positions * (2 * np.pi / SIZE)
    return np.concatenate([np.cos(angles), np.sin(angles)], -1)


def accuracy(features, labels):
    features = features.reshape(len(features), -1)
    half = len(features) // 2
    forest = RandomForestClassifier(20, random_state=0)
    forest.fit(features[:half], labels[:half])
    return forest.score(features[half:], labels[half:])


def test_both_digits_at_both_ends_tell_the_class(truth):
    """No two classes coincide: each clip has one label, read off its ends."""
    paths, labels = truth
    relative = paths[:, 1] - paths[:, 0]
    apart = np.abs((relative + SIZE / 2) % SIZE - SIZE / 2) > SIZE / 4
    codes = {(True, False): 0, (False, True): 1, (True, True): 2}
    read = [
        codes[tuple(clip[0])] * len(RELATIONS) + codes[tuple(clip[-1])]
        for clip in apart
    ]
    assert np.array_equal(read, labels)


@pytest.mark.parametrize('digit', [0, 1])
def test_one_digit_tells_nothing(truth, digit):
    paths, labels = truth
    assert accuracy(on_circle(paths[:, digit]), labels) < 1 / 9 + 0.03


@pytest.mark.parametrize('frame', [0, -1])
def test_one_end_tells_one_relation(truth, frame):
    paths, labels = truth
    relative = on_circle(paths[:, 1, frame] - paths[:, 0, frame])
    assert 1 / 3 - 0.05 < accuracy(relative, labels) < 1 / 3 + 0.05


def test_no_single_frame_tells_more_than_an_end(truth):
    paths, labels = truth
    relative = on_circle(paths[:, 1] - paths[:, 0])
    best = max(accuracy(relative[:, t], labels) for t in range(1, 15, 2))
    assert best < 1 / 3 + 0.05


def test_same_options_same_bytes(tmp_path, digest):
    for name in 'ab':
        prepare_moving_digits(tmp_path / name, **SMALL)
    first, again = (digest(tmp_path / name) for name in 'ab')
    assert first == again
    # no two clips are the same
    assert len(first) == len({*first.values()}) == 18 + 9 + 6


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'movingdigits'
    prepare_moving_digits(root, **SMALL)
    return root


PIPELINE = [
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=1, num_clips=1),
    dict(type='VideoDecode'),
]


@pytest.fixture
def clips(root, build):
    """The data set of a split."""

    def clips(split='train', **settings):
        settings = {**SMALL, **settings}
        return build(
            'mmaction', 'MovingDigits', root, split=split, pipeline=PIPELINE,
            **settings,
        )  # fmt: skip

    return clips


def test_clips_hold_what_the_truth_says(root, clips):
    """Where the true positions are, there is ink; elsewhere there is none."""
    truth = np.load(root / 'train.npz')
    dataset = clips()
    assert len(dataset) == 18 and len(clips('test')) == 9
    for index in range(18):
        sample = dataset[index]
        assert sample['label'] == truth['labels'][index]
        clip = np.stack(sample['imgs']).astype(int)
        assert clip.shape == (8, SIZE, SIZE, 3)
        near = np.zeros(clip.shape[:3], bool)
        for path in truth['paths'][index]:
            for t, (x, y) in enumerate(path):
                rows = (round(y) + np.arange(-9, 9)) % SIZE
                columns = (round(x) + np.arange(-9, 9)) % SIZE
                window = np.ix_(rows, columns)
                assert clip[t][window].max() > 130
                near[t][window] = True
        assert clip[~near].max() < 110


def test_pyav_reads_what_decord_reads(clips, monkeypatch):
    def frames(data_set):
        return np.stack(data_set[0]['imgs']).astype(int)

    decord = frames(clips())
    monkeypatch.setitem(sys.modules, 'decord', None)  # Python's way to hide
    assert 'PyAV' in repr(clips().pipeline)
    assert np.abs(frames(clips()) - decord).max() <= 3  # rounding of yuv


def test_no_decoder_says_what_to_install(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, 'decord', None)
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(Exception, match='pip install decord') as caught:
        clips()
    assert isinstance(caught.value, SetupError)


def test_writing_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(SetupError, match='pip install av'):
        prepare_moving_digits(tmp_path / 'd', **SMALL)
    assert not (tmp_path / 'd').exists()
