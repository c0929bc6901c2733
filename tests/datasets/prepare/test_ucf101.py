"""UCF101, from the official split files to mmaction2's data set."""

import re
import wave
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets import VideoDataset

from cgnl_mm.datasets.moving_digits import write_video
from cgnl_mm.datasets.prepare.ucf101 import locate
from cgnl_mm.errors import SetupError

CLASSES = ['ApplyEyeMakeup', 'HandstandPushups', 'YoYo']
# the original spells this class and its clips differently
SPELLING = {'HandstandPushups': 'HandStandPushups'}
GROUPS = range(1, 7)


def clip_name(name, group):
    return f'{name}/v_{SPELLING.get(name, name)}_g{group:02d}_c01.avi'


def part(split):
    """Groups of the test list: two of six, others in each split."""
    return [2 * split - 1, 2 * split]


@pytest.fixture
def source(tmp_path):
    """Split files as published (CRLF, test lists without labels), clips."""
    splits = tmp_path / 'ucfTrainTestlist'
    splits.mkdir()
    rows = (f'{i} {name}\r\n' for i, name in enumerate(CLASSES, 1))
    (splits / 'classInd.txt').write_text(''.join(rows), newline='')
    for split in (1, 2, 3):
        train, test = '', ''
        for label, name in enumerate(CLASSES, 1):
            for group in GROUPS:
                if group in part(split):
                    test += f'{clip_name(name, group)}\r\n'
                else:
                    train += f'{clip_name(name, group)} {label}\r\n'
        (splits / f'trainlist0{split}.txt').write_text(train, newline='')
        (splits / f'testlist0{split}.txt').write_text(test, newline='')
    for name in CLASSES:
        for group in GROUPS:
            path = tmp_path / 'data/ucf101/videos' / clip_name(name, group)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'clip')
    return tmp_path


@pytest.fixture
def prepare(source, run_script):
    def run(*options):
        return run_script('ucf101', '--splits', 'ucfTrainTestlist', *options)

    return run


def samples(part, split):
    """What mmaction2 reads where the configs look: (path, label)."""
    data_set = VideoDataset(
        ann_file=f'data/ucf101/ucf101_{part}_split_{split}_videos.txt',
        data_prefix=dict(video='data/ucf101/videos'),
        pipeline=[],
    )
    infos = [data_set.get_data_info(i) for i in range(len(data_set))]
    return [(i['filename'], i['label']) for i in infos]


def expected(split, test):
    return [
        (f'data/ucf101/videos/{clip_name(name, group)}', label)
        for label, name in enumerate(CLASSES)
        for group in GROUPS
        if (group in part(split)) == test
    ]


def test_mmaction_reads_all_splits(source, prepare):
    out = prepare()
    for split in (1, 2, 3):
        assert samples('train', split) == expected(split, test=False)
        assert samples('val', split) == expected(split, test=True)
    root = source / 'data/ucf101'
    assert (root / 'classes.txt').read_text().splitlines() == CLASSES
    assert (root / 'unusable.txt').read_text() == ''
    assert 'train 3: 12 of 12 clips found, 4 to 4 a class\n' in out
    assert 'val 2 has 6 usable clips, the complete one 3,734' in out
    assert 'train 1 has 12 usable clips, the complete one 9,537' in out
    assert 'warning: UCF101 has 101 classes, classInd.txt 3' in out
    assert 'ln -s' not in out
    assert 'wrote' not in prepare()


def test_flat_folder_elsewhere(source, prepare):
    videos = source / 'clips'
    videos.mkdir()
    for path in list((source / 'data').rglob('*.avi')):
        path.rename(videos / path.name)
    (videos / 'v_Other_g01_c01.AVI').write_bytes(b'clip')
    out = prepare('--videos', 'clips')
    assert f'ln -sfT {videos} data/ucf101/videos' in out
    assert '1 .avi files in no list' in out
    (source / 'data/ucf101/videos').rename(source / 'empty')
    (source / 'data/ucf101/videos').symlink_to(videos)
    for path, label in samples('val', 1):
        assert Path(path).read_bytes() == b'clip'
        assert CLASSES[label][:5].lower() in Path(path).name.lower()


def test_faults_are_counted_and_listed(source, prepare):
    videos = source / 'data/ucf101/videos'
    (videos / clip_name('YoYo', 1)).unlink()
    (videos / clip_name('YoYo', 2)).write_bytes(b'')
    (videos / clip_name('YoYo', 3)).unlink()
    (videos / clip_name('YoYo', 3)).symlink_to('nowhere')
    folder = videos / 'a b'
    folder.mkdir()
    (videos / clip_name('YoYo', 4)).rename(
        folder / Path(clip_name('YoYo', 4)).name
    )
    (videos / 'YoYo/caf\u00e9\n.avi').write_bytes(b'of no list')
    with (source / 'ucfTrainTestlist/trainlist01.txt').open('a') as file:
        file.write(f'{clip_name("YoYo", 6)} 3\n{clip_name("YoYo", 1)} 3\n')
    out = prepare()
    unusable = (source / 'data/ucf101/unusable.txt').read_text().splitlines()
    assert [line for line in unusable if ' 1\t' in line] == [
        f'train 1\t{clip_name("YoYo", 3)}\tYoYo\tdead link',
        f'train 1\t{clip_name("YoYo", 4)}\tYoYo\tpath that no list can hold',
        f'train 1\t{clip_name("YoYo", 1)}\tYoYo\talso in the test list',
        f'val 1\t{clip_name("YoYo", 1)}\tYoYo\tmissing',
        f'val 1\t{clip_name("YoYo", 2)}\tYoYo\tzero bytes',
    ]
    assert 'val 1: 4 of 6 clips found, 0 to 2 a class; 1 missing; 1 zer' in out
    assert '3 classes, 1 repeated lines, 1 .avi files in no list' in out
    assert len(samples('train', 1)) == 10


def test_decode_finds_what_is_no_video(source, prepare, truncate):
    rng = np.random.default_rng(0)
    clips = sorted((source / 'data').rglob('*.avi'))
    frames = rng.integers(0, 255, (8, 64, 64), dtype=np.uint8)
    write_video(source / 'real.mp4', frames)
    for path in clips:
        path.write_bytes((source / 'real.mp4').read_bytes())
    truncate(clips[0])
    clips[6].write_bytes(b'<html>not found</html>')
    with wave.open(str(clips[12]), 'wb') as sound:
        sound.setparams((1, 2, 8000, 0, 'NONE', ''))
        sound.writeframes(bytes(16000))
    out = prepare('--decode')
    assert 'val 1: 3 of 6 clips found, 1 to 1 a class; 3 unreadable' in out
    names = [Path(path).name for path, _ in samples('val', 1)]
    assert names == [clips[i].name for i in (1, 7, 13)]


def change(name, old, new):
    def edit(source):
        path = source / 'ucfTrainTestlist' / name
        text = path.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new, 1))

    return edit


@pytest.mark.parametrize('edit, message', [
    (change('classInd.txt', b'2 Hand', b'4 Hand'),
     "classInd.txt, line 2: '4 HandstandPushups' is not \"2 NAME\""),
    (change('classInd.txt', b'3 YoYo', b'3 ApplyEyeMakeup'),
     "classInd.txt, line 3: 'ApplyEyeMakeup' is not a new class"),
    (change('classInd.txt', b'3 YoYo', b'3 ../YoYo'),
     "line 3: '../YoYo' is not a new class"),
    (change('classInd.txt', b'YoYo', b'Caf\xe9'),
     'classInd.txt, line 3: not UTF-8'),
    (change('trainlist02.txt', b'c01.avi 1', b'c01.avi 3'),
     "trainlist02.txt, line 1: label '3', but ApplyEyeMakeup is num"),
    (change('testlist03.txt', b'YoYo/', b'../../YoYo/'),
     'is not a path below the data folder'),
    (change('testlist03.txt', b'YoYo/', b'/YoYo/'),
     "testlist03.txt, line 5: '/YoYo/v_YoYo_g05_c01.avi' is not a path"),
    (change('testlist03.txt', b'YoYo/', b'Golf/'),
     "testlist03.txt, line 5: 'Golf/v_YoYo_g05_c01.avi' is not CLASS"),
    (lambda s: (s / 'ucfTrainTestlist/testlist03.txt').unlink(),
     'testlist03.txt does not exist: --splits'),
    (lambda s: (s / 'data/ucf101/videos').rename(s / 'elsewhere'),
     '--videos: no folder data/ucf101/videos'),
    (lambda s: [p.unlink() for p in (s / 'data').rglob('*.avi')],
     'train 1: no usable clip below data/ucf101/videos'),
])  # fmt: skip
def test_faults_of_the_lists_end_it_and_write_nothing(
    source, prepare, edit, message
):
    edit(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        prepare()
    assert not list((source / 'data').rglob('*.txt'))


def test_a_clip_is_first_looked_for_where_the_list_says():
    names, found = ['B/v.avi', 'C/v.avi', 'C/w.avi'], ['A/v.avi', 'B/v.avi']
    places = ['B/v.avi', 'A/v.avi', 'C/w.avi']
    assert locate(names, found) == dict(zip(names, places))
