"""What real copies of Kinetics hold: faults of lists, csv files and folders.

The clips are not decoded here: tests/tools/test_minikinetics.py does.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
from mmaction.registry import DATASETS

import cgnl_mm.datasets.mmaction  # noqa: F401
from cgnl_mm.errors import MissingDataError, SetupError

TOOLS = Path(__file__).parents[2] / 'tools'
TRAIN, VAL = '-aaaaaaaaa_', '_bbbbbbbbb-'
FOLDER = 'videos_train/zumba'
CLIP = f'{FOLDER}/{TRAIN}_000001_000011.mp4'


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(TOOLS))
    path = TOOLS / 'data/minikinetics.py'
    spec = importlib.util.spec_from_file_location('minikinetics', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(TOOLS))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """One clip for each split, in mmaction2's layout; the working folder."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / 'videos'
    (root / FOLDER).mkdir(parents=True)
    for name, clip in (('train', TRAIN), ('val', VAL)):
        Path(f'{name}_ytid_list.txt').write_text(f'{clip}\n')
        Path(f'{name}.csv').write_text(
            'label,youtube_id,time_start,time_end,split,is_cc\n'
            f'zumba,{clip},1,11,{name},0\n'
        )
        (root / f'{FOLDER}/{clip}_000001_000011.mp4').write_bytes(b'clip')
    return tmp_path


@pytest.fixture
def prepare(script, source, capsys):
    def run(*options):
        argv = ['--ids', '.', '--csv', 'train.csv', 'val.csv', '--quiet']
        script.main([*argv, '--videos', 'videos', '--out', 'out', *options])
        return capsys.readouterr().out

    return run


def data_set(split='train'):
    config = dict(
        type='MiniKinetics',
        split=split,
        data_root='out',
        video_root='videos',
        pipeline=[],
    )
    return DATASETS.build(config)


def append(name, content):
    def change(source):
        with (source / name).open('ab') as file:
            file.write(content)

    return change


def bom(name):
    def change(source):
        content = (source / name).read_bytes()
        (source / name).write_bytes(b'\xef\xbb\xbf' + content)

    return change


ROW = b'zumba,ccccccccccc,1,11,train,0\n'


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        (
            append('train.csv', b'caf\xe9,ccccccccccc,1,11,train,0\n'),
            'train.csv, line 3: not UTF-8',
        ),
        (
            append('val_ytid_list.txt', b'caf\xe9caf\xe9caf\n'),
            'val_ytid_list.txt, line 2: not UTF-8',
        ),
        (
            append('train.csv', b'"' + ROW + ROW),
            'train.csv, line 3: unexpected end of data; is a quote left open?',
        ),
        (
            append('train.csv', b'"' + ROW * 5000),
            'train.csv, line 3: field larger than field limit',
        ),
        (
            append('train.csv', ROW + b'zu\x00mba,ddddddddddd,1,11,train,0\n'),
            'train.csv, line 4: malformed',
        ),
        (
            append('train.csv', b'"zu\nmba",ddddddddddd,1,11,train,0\n'),
            'train.csv, line 4: malformed',
        ),
        *(
            (
                append('train.csv', b'zumba,ccccccccccc,%b,train,0\n' % times),
                f'train.csv, line 3: times must be seconds, got {shown}',
            )
            for times, shown in (
                (b'inf,11', "'inf', '11'"),
                (b'1,nan', "'1', 'nan'"),
                (b'-3,7', "'-3', '7'"),
                (b'30,7', "'30', '7'"),
            )
        ),
        (
            append('val.csv', b'yoga,%b,1,11,val,0\n' % TRAIN.encode()),
            f"val.csv: {TRAIN} is ('yoga', 1, 11) here",
        ),
        (append('out', b''), '--out out: File exists'),
    ],
)
def test_bad_lists_end_it_with_the_line(source, prepare, fault, message):
    fault(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        prepare()
    assert not (source / 'out/train.txt').exists()


def into(place):
    """Move the training clip's folder below another name."""

    def change(source):
        folder = os.fsencode(source / 'videos')
        os.mkdir(os.path.join(folder, place))
        os.rename(source / 'videos' / CLIP, os.path.join(
            folder, place, os.fsencode(Path(CLIP).name)
        ))  # fmt: skip

    return change


def dead_link(source):
    (source / 'videos' / CLIP).unlink()
    (source / 'videos' / CLIP).symlink_to('nowhere.mp4')


@pytest.mark.parametrize(
    ('fault', 'reason'),
    [
        (dead_link, 'dead link'),
        (into(b' zumba'), 'path that no list can hold'),
        (into(b'zumba\t'), 'path that no list can hold'),
        (into(b'caf\xe9'), 'path that no list can hold'),
    ],
)
def test_unusable_clips_are_listed_and_do_not_end_it(
    source, prepare, fault, reason
):
    """What is written is read: a second clip keeps the list from empty."""
    other = 'ccccccccccc'
    append('train_ytid_list.txt', f'{other}\n'.encode())(source)
    append('train.csv', f'zumba,{other},5,15,train,0\n'.encode())(source)
    path = f'{FOLDER}/{other}_000005_000015.mp4'
    (source / 'videos' / path).write_bytes(b'clip')
    fault(source)
    out = prepare()
    assert f'train: 1 of 2 clips found, 1 to 1 a class; 1 {reason}' in out
    assert (source / 'out/unusable.txt').read_text() == (
        f'train\t{TRAIN}\tzumba\t{reason}\n'
    )
    (sample,) = [data_set().get_data_info(i) for i in range(len(data_set()))]
    assert Path(sample['filename']) == Path('videos', path)


@pytest.mark.parametrize(
    'harmless',
    [
        bom('train.csv'),
        bom('train_ytid_list.txt'),
        # of no list, so of no matter
        lambda s: [
            append(f, b'%b,ddddddddddd,1,11,train,0\n' % label)(s)
            for f, label in (('train.csv', b'yoga'), ('val.csv', b'golf'))
        ],
        # the same clip under its bare id may be the whole video
        append(f'videos/{FOLDER}/{TRAIN}.mp4', b'all of it'),
        # two links that lead back: unguarded, the search never ends
        lambda s: [
            (folder / '!back').symlink_to(folder)
            for folder in (s / 'videos', s / 'videos' / FOLDER)
        ],
    ],
)
def test_harmless_oddities_change_nothing(source, prepare, harmless):
    harmless(source)
    prepare()
    assert (source / 'out/train.txt').read_text() == f'{CLIP}\t0\n'
    assert (source / 'out/classes.txt').read_text() == 'zumba\n'


def test_says_what_to_link_unless_the_configs_find_it(source, prepare):
    videos, lists = source / 'videos', source / 'out'
    out = prepare()
    assert f'ln -sfn {videos} data/kinetics400' in out
    assert f'ln -sfn {lists} data/minikinetics' in out
    (source / 'data').mkdir()
    (source / 'data/kinetics400').symlink_to(videos)
    (source / 'data/minikinetics').symlink_to(lists)
    assert 'ln -s' not in prepare()


@pytest.mark.parametrize(
    'path', ['out/train.txt', 'out/classes.txt', 'videos']
)
def test_data_set_names_what_is_missing(source, prepare, path):
    prepare()
    Path(path).rename('elsewhere')
    with pytest.raises(MissingDataError) as error:
        data_set()
    first, command = str(error.value).split('\n')
    assert first.startswith(f'{path} does not exist (seen from {source})')
    assert 'github.com/s9xie/Mini-Kinetics-200' in first
    assert command.split()[:2] == ['python', 'tools/data/minikinetics.py']
    assert '--videos videos --out out' in command


def test_data_set_has_the_names_of_its_labels(source, prepare):
    prepare()
    assert data_set('val').metainfo['classes'] == ['zumba']
    with pytest.raises(ValueError, match="'train' or 'val', got 'test'"):
        data_set('test')
