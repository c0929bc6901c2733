"""Mini-Kinetics-200: what is read, written, counted, refused."""

import os
from functools import partial
from pathlib import Path

import pytest
from miniatures import CLIPS, SPORTS, clip_path, make_minikinetics

from cgnl_mm.errors import SetupError

VIDEOS = Path('kinetics400/videos_train')
OPTIONS = '--ids ids --csv train.csv validate.csv --videos kinetics400'
OPTIONS = [*OPTIONS.split(), '--out', 'out']


@pytest.fixture
def run(prepare):
    make_minikinetics()
    return partial(prepare, 'minikinetics', *OPTIONS)


@pytest.fixture
def read(samples):
    def read(split):
        return samples(f'out/{split}.txt', 'kinetics400', delimiter='\t')

    return read


def lines(name):
    return Path('out', name).read_text().splitlines()


def expected(split, without=()):
    return [
        (str(clip_path(*item)), SPORTS.index(item[0]))
        for item in CLIPS
        if item[4] == split and item not in without
    ]


def append(name, content):
    with open(name, 'ab') as file:
        file.write(content)


def test_host_reads_what_the_script_writes(run, read):
    out = run()
    told = 'train.txt: 5 of 6 clips are usable, of 80,000 in the complete '
    assert f'{told}data set; the others: 1 missing\n' in out
    assert 'val.txt: 3 of 3 clips are usable, of 5,000' in out
    for split in ('train', 'val'):
        assert read(split) == expected(split)
    assert lines('classes.txt') == SPORTS
    assert lines('unusable.txt') == [
        'train.txt\tiiiiiiiiiii\tabseiling\tmissing'
    ]


def test_faults_of_clips_are_counted_and_listed(run, read):
    clip_path(*CLIPS[0]).write_bytes(b'')
    moved = clip_path(*CLIPS[1])
    moved.rename(moved.with_name('-bbbbbbbbb-_000050_000060.mp4'))
    clip_path(*CLIPS[3]).rename('kinetics400/ddddddddddd.MP4')
    clip_path(*CLIPS[4]).unlink()
    clip_path(*CLIPS[4]).symlink_to('nowhere')
    more = b'ddddddddddd\n\nkkkkkkkkkkk\nfffffffffff\n'
    append('ids/train_ytid_list.txt', more)
    assert 'train.txt: 2 of 8 clips are usable' in run()
    assert [line.split('\t') for line in lines('unusable.txt')] == [
        ['train.txt', clip, label, reason]
        for clip, label, reason in (
            ('aaaaaaaaaaa', 'air drumming', 'zero bytes'),
            ("'-bbbbbbbbb-", 'air drumming', 'missing'),
            ('eeeeeeeeeee', 'zumba', 'dead link'),
            ('iiiiiiiiiii', 'abseiling', 'missing'),
            ('kkkkkkkkkkk', 'None', 'not in the csv files'),
            ('fffffffffff', 'zumba', 'also in the val list'),
        )
    ]
    assert read('train')[0] == ('kinetics400/ddddddddddd.MP4', 3)


@pytest.mark.parametrize('name', [b'zumba\t', b'zum\nba', b'caf\xe9'])
def test_paths_that_no_list_can_hold(run, read, name):
    """What is written is read."""
    os.rename(VIDEOS / 'zumba', os.path.join(os.fsencode(VIDEOS), name))
    assert '2 path that no list can hold' in run()
    assert read('train') == expected('train', (CLIPS[3], CLIPS[4]))


def test_harmless_oddities_change_nothing(run, read):
    for name in ('train.csv', 'ids/train_ytid_list.txt'):
        Path(name).write_bytes(b'\xef\xbb\xbf' + Path(name).read_bytes())
    ids = Path('ids/val_ytid_list.txt')
    ids.write_bytes(ids.read_bytes().replace(b'\n', b'\r\n'))
    # of no list, so of no matter
    append('train.csv', b'yoga,jjjjjjjjjjj,1,11,train,0\n')
    append('validate.csv', b'golf,jjjjjjjjjjj,1,11,train,0\n')
    # the same clip under its bare id may be the whole video
    (VIDEOS / 'zumba/ddddddddddd.mp4').write_bytes(b'all of it')
    run()
    assert read('train') == expected('train')
    assert read('val') == expected('val')
    assert lines('classes.txt') == SPORTS


ROW = 'zumba,ccccccccccc,1,11,train,0'


@pytest.mark.parametrize('name, old, new, said', [
    ('val_ytid_list.txt', '', 'too short\n', "line 4: 'too shor"),
    ('train_ytid_list.txt', '', None, 'does not exist: --ids takes'),
    ('train.csv', '', 'zumba,ddd,1,2,train,0\n', 'line 9: malformed'),
    ('train.csv', '', 'zumba\n', 'line 9: '),
    ('train.csv', '', f'{ROW}\nzu\0mba,jjjjjjjjjjj,1,11,train,0', 'line 10: '),
    ('train.csv', '', f'"{ROW}\n{ROW}', 'line 9: unexpected end of data; is'),
    ('train.csv', '', f'"{ROW * 5000}', 'line 9: field larger than field li'),
    ('train.csv', '', ROW.replace('1,11', 'x,9'), 'line 9: '),
    ('train.csv', '', ROW.replace('1,11', 'inf,11'), 'line 9: '),
    ('train.csv', '', ROW.replace('1,11', '30,7'), 'line 9: malformed'),
    ('train.csv', 'label,', 'name,', "line 2: 'label'; is a quote left op"),
    ('train.csv', '', None, '--csv: train.csv does not exist'),
    ('validate.csv', '', 'yoga,ddddddddddd,12,22,val,0',
     "line 6: ('yoga', 12, 22) for 'ddddddddddd', further up"),
    ('kinetics400', '', None, '--videos: no folder'),
])  # fmt: skip
def test_faults_of_lists_end_it(run, refuses, name, old, new, said):
    refuses(run, name, old, new, said)


def test_lists_of_nothing_are_not_written(run):
    for path in Path('kinetics400/videos_val').rglob('*.mp4'):
        path.unlink()
    with pytest.raises(SetupError, match='val.txt: none of the clips is'):
        run()
    for path in Path().glob('*.csv'):
        path.write_text('label,youtube_id,time_start,time_end\n')
    with pytest.raises(SetupError, match='none of the ids is in the csv fi'):
        run()
    assert not list(Path('out').glob('*'))
