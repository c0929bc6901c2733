"""UCF101: what is read, written, counted, refused."""

from functools import partial
from pathlib import Path

import pytest
from miniatures import ACTIONS, action, actions, make_ucf101

VIDEOS = Path('data/ucf101/videos')
YOYO = [action('YoYo', group) for group in range(7)]


@pytest.fixture
def run(prepare):
    make_ucf101()
    return partial(prepare, 'ucf101', '--splits', 'ucfTrainTestlist')


@pytest.fixture
def read(samples):
    def read(part, split):
        name = f'ucf101_{part}_split_{split}_videos.txt'
        return samples(VIDEOS.parent / name, str(VIDEOS))

    return read


def test_host_reads_what_the_script_writes(run, read):
    out = run()
    assert (
        'ucf101_val_split_2_videos.txt: 6 of 6 clips are usable, of 3,734 in '
        'the complete data set\n'
    ) in out
    for split in (1, 2, 3):
        for part in ('train', 'val'):
            assert read(part, split) == [
                (f'{VIDEOS}/{name}', label)
                for name, label in actions(split, part == 'val')
            ]
    classes = Path('data/ucf101/classes.txt').read_text()
    assert classes.splitlines() == ACTIONS


def test_faults_of_clips_are_counted_and_listed(run, read):
    """And what is tested is not trained with."""
    (VIDEOS / YOYO[1]).unlink()
    (VIDEOS / YOYO[2]).write_bytes(b'')
    (VIDEOS / YOYO[3]).unlink()
    (VIDEOS / YOYO[3]).symlink_to('nowhere')
    with open('ucfTrainTestlist/trainlist01.txt', 'a') as file:
        file.write(f'{YOYO[6]} 3\n{action(ACTIONS[0], 1)} 1\n')
    assert 'train_split_1_videos.txt: 11 of 13 clips are usable' in run()
    train, val = 'train_split_1', 'val_split_1'
    listed = Path('data/ucf101/unusable.txt').read_text().splitlines()
    assert [row for row in listed if 'split_1' in row] == [
        f'ucf101_{of}_videos.txt\t{name}\t{name.split("/")[0]}\t{reason}'
        for of, name, reason in (
            (train, YOYO[3], 'dead link'),
            (train, action(ACTIONS[0], 1), 'also in the test list'),
            (val, YOYO[1], 'missing'),
            (val, YOYO[2], 'zero bytes'),
        )
    ]
    assert len(read('train', 1)) == 11 and len(read('val', 1)) == 4


@pytest.mark.parametrize('name, old, new, said', [
    ('classInd.txt', '2 Hand', '4 Hand', "line 2: '4 HandstandPushups' is n"),
    ('classInd.txt', '3 YoYo', '3 ApplyEyeMakeup', 'is not a new class'),
    ('classInd.txt', '3 YoYo', '3 ../YoYo', "line 3: '../YoYo' is not a new"),
    ('trainlist02.txt', 'avi 1', 'avi 3',
     "line 1: label '3', but ApplyEyeMakeup is number 1"),
    ('testlist03.txt', 'YoYo/', '../YoYo/',
     "line 5: '../YoYo/v_YoYo_g05_c01.avi' is not a path"),
    ('testlist03.txt', 'YoYo/', 'Golf/', "c01.avi' is not CLASS/NAME.avi"),
    ('testlist03.txt', '', None, 'testlist03.txt does not exist: --splits'),
    ('videos', '', None, '--videos: no folder data/ucf101/videos'),
])  # fmt: skip
def test_faults_of_lists_end_it(run, refuses, name, old, new, said):
    refuses(run, name, old, new, said)
