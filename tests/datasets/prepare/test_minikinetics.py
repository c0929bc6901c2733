"""Mini-Kinetics-200, from what the user downloads to a trained network."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS

import cgnl_mm.datasets.mmaction  # noqa: F401
from cgnl_mm.datasets.moving_digits import write_video
from cgnl_mm.errors import SetupError

ROOT = Path(__file__).parents[3]
# label, id, start, end, split; ids with '-' and '_' at either end
CLIPS = [
    ('air drumming', 'aaaaaaaaaaa', 3, 13, 'train'),
    ('air drumming', '-bbbbbbbbb-', 0, 10, 'train'),
    ('air drumming', '_ccccccccc_', 7, 17, 'val'),
    ('zumba', 'ddddddddddd', 12, 22, 'train'),
    ('zumba', 'eeeeeeeeeee', 1, 11, 'train'),
    ('zumba', 'fffffffffff', 2, 12, 'val'),
    ('bowling', 'ggggggggggg', 100, 110, 'train'),
    ('bowling', 'hhhhhhhhhhh', 5, 15, 'val'),
]
LOST = ('abseiling', 'iiiiiiiiiii', 5, 15, 'train')  # no file at all
CLASSES = ['abseiling', 'air drumming', 'bowling', 'zumba']
FILES = ['classes.txt', 'train.txt', 'unusable.txt', 'val.txt']


def clip_path(videos, label, clip, start, end, split):
    name = f'{clip}_{start:06d}_{end:06d}.mp4'
    return videos / f'videos_{split}' / label / name


@pytest.fixture(scope='session')
def clip(tmp_path_factory):
    """A real mp4 file."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (20, 64, 64), dtype=np.uint8))
    return path.read_bytes()


@pytest.fixture
def source(tmp_path, clip):
    """The id lists, csv files and clips in their original layouts."""
    for item in CLIPS:
        path = clip_path(tmp_path / 'kinetics400', *item)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    (tmp_path / 'ids').mkdir()
    header = 'label,youtube_id,time_start,time_end,split,is_cc\n'
    for split, csv_split in (('train', 'train'), ('val', 'validate')):
        clips = [c for c in [*CLIPS, LOST] if c[4] == split]
        (tmp_path / f'ids/{split}_ytid_list.txt').write_text(
            ''.join(f'{c[1]}\n' for c in clips)
        )
        (tmp_path / f'{csv_split}.csv').write_text(
            header
            + ''.join(f'{",".join(map(str, c))},0\n' for c in clips)
            + 'yoga,zzzzzzzzzzz,0,10,train,0\n'
        )
    return tmp_path


@pytest.fixture
def prepare(source, run_script):
    """Run the script with or without csv files; returns what it prints."""

    def run(*options, csv=True):
        return run_script(
            'minikinetics', '--ids', 'ids',
            *(['--csv', 'train.csv', 'validate.csv'] if csv else []),
            '--videos', 'kinetics400', '--out', 'out', *options,
        )  # fmt: skip

    return run


def lines(source, name):
    return (source / 'out' / name).read_text().splitlines()


def samples(split='train'):
    """What the data set reads: (path, label), and its classes."""
    config = dict(
        type='MiniKinetics',
        split=split,
        data_root='out',
        video_root='kinetics400',
        pipeline=[],
    )
    data_set = DATASETS.build(config)
    infos = [data_set.get_data_info(i) for i in range(len(data_set))]
    return [(i['filename'], i['label']) for i in infos], data_set.metainfo


def append(name, content):
    def change(source):
        with (source / name).open('ab') as file:
            file.write(content)

    return change


def expected(split, classes=CLASSES):
    return [
        (str(clip_path(Path('kinetics400'), *c)), classes.index(c[0]))
        for c in CLIPS
        if c[4] == split
    ]


def test_writes_what_the_data_set_reads(source, prepare):
    """Also the labels: sorted names, with the class that has no clip."""
    out = prepare()
    for split in ('train', 'val'):
        found, metainfo = samples(split)
        assert found == expected(split)
        assert metainfo['classes'] == CLASSES
    assert lines(source, 'unusable.txt') == [
        'train\tiiiiiiiiiii\tabseiling\tmissing'
    ]
    assert 'train: 5 of 6 clips found, 0 to 2 a class; 1 missing' in out
    assert 'warning: val has 3 usable clips, the complete one 5,000' in out
    stamps = {f: f.stat().st_mtime_ns for f in (source / 'out').iterdir()}
    assert 'wrote' not in prepare()
    after = {f: f.stat().st_mtime_ns for f in (source / 'out').iterdir()}
    assert after == stamps


def mmaction_layout(source, flat=()):
    """As mmaction2 leaves it: class folders with underscores, and lists.

    The labels of the lists are in no order, and 'yoga' is of no id list.
    """
    videos = source / 'kinetics400'
    order = ['yoga', 'zumba', 'bowling', 'air drumming', 'abseiling']
    for split in ('train', 'val'):
        text = ''
        for item in [*CLIPS, LOST, ('yoga', 'z' * 11, 0, 10, 'train')]:
            if item[4] != split:
                continue
            path = clip_path(videos, *item)
            moved = path.parents[1] / item[0].replace(' ', '_') / path.name
            if split in flat:
                moved = path.parents[1] / path.name
            if path.exists():
                moved.parent.mkdir(exist_ok=True)
                path.rename(moved)
            name = moved.relative_to(videos / f'videos_{split}')
            text += f'{name} {order.index(item[0])}\n'
        (videos / f'kinetics400_{split}_list_videos.txt').write_text(text)


def test_mmaction_layout_needs_no_csv_and_no_copy(source, prepare):
    """The classes are those that the csv files give."""
    mmaction_layout(source)
    out = prepare(csv=False)
    assert 'labels: from kinetics400_train_list_videos.txt and' in out
    for split in ('train', 'val'):
        found, metainfo = samples(split)
        assert found == [
            (path.replace('air drumming', 'air_drumming'), label)
            for path, label in expected(split)
        ]
        assert metainfo['classes'] == CLASSES
        assert all(Path(path).is_file() for path, _ in found)
    assert lines(source, 'unusable.txt') == [
        'train\tiiiiiiiiiii\tabseiling\tmissing'
    ]
    # the folders are found with the csv files as well: the same lists
    assert 'wrote' not in prepare()


def test_flat_mmaction_layout_has_numbers_for_names(source, prepare):
    mmaction_layout(source, flat=('train', 'val'))
    prepare(csv=False)
    assert lines(source, 'classes.txt') == ['001', '002', '003', '004']
    assert [label for _, label in samples('val')[0]] == [2, 0, 1]


def test_class_folders_of_one_split_name_the_classes(source, prepare):
    mmaction_layout(source, flat=('val',))
    prepare(csv=False)
    found, metainfo = samples('val')
    assert [label for _, label in found] == [1, 3, 2]
    assert metainfo['classes'] == CLASSES


def test_class_folders_alone_are_labels(source, prepare):
    out = prepare(csv=False)
    assert 'labels: from the class folders' in out
    classes = ['air drumming', 'bowling', 'zumba']
    assert samples('val') == (
        expected('val', classes),
        {'classes': classes},
    )
    # a class folder's name must not end a line of classes.txt
    folder = source / 'kinetics400/videos_train'
    (folder / 'zumba').rename(folder / 'zum\nba')
    out = prepare(csv=False)
    assert lines(source, 'classes.txt') == [*classes[:2], 'zum\\nba', 'zumba']
    assert '2 path that no list can hold' in out


def test_folders_of_one_name_are_no_classes(source, prepare):
    for split in ('train', 'val'):
        (source / f'kinetics400/all_{split}/all').mkdir(parents=True)
        for path in source.glob(f'kinetics400/videos_{split}/*/*'):
            path.rename(source / f'kinetics400/all_{split}/all' / path.name)
        shutil.rmtree(source / f'kinetics400/videos_{split}')
        (source / f'kinetics400/all_{split}').rename(
            source / f'kinetics400/videos_{split}'
        )
    with pytest.raises(SetupError, match="one name, .'all'.* --csv"):
        prepare(csv=False)
    assert not (source / 'out').exists()


LIST = 'kinetics400/kinetics400_train_list_videos.txt'


@pytest.mark.parametrize('line, message', [
    ('../aaaaaaaaaaa.mp4 0', "'../aaaaaaaaaaa.mp4' is not a path below"),
    ('zumba/\x1b[2J.mp4 0', 'is not a path below the data folder'),
    ('zumba/aaaaaaaaaaa.mp4', 'no label at the end'),
    ('zumba/aaaaaaaaaaa.mp4 \u0663', 'no label at the end'),
    ('zumba/ddddddddddd.mp4 7', "7 for 'zumba', further up 1"),
    ('golf/ddddddddddd.mp4 1', "'golf' for 1, further up 'zumba'"),
    ('bowling/ddddddddddd_000012_000022.mp4 2',
     "(2, 12, 22) for 'ddddddddddd', further up (1, 12, 22)"),
])  # fmt: skip
def test_bad_mmaction_lists_end_it_with_the_line(
    source, prepare, line, message
):
    mmaction_layout(source)
    append(LIST, f'{line}\n'.encode())(source)
    with pytest.raises(SetupError, match='line 8: .*' + re.escape(message)):
        prepare(csv=False)
    assert not (source / 'out').exists()


def test_without_csv_labels_must_be_clear(source, prepare):
    train = source / 'kinetics400/videos_train'
    other = train / 'bowling/ddddddddddd.mp4'
    other.write_bytes(b'clip')
    with pytest.raises(SetupError, match='no label for .*zumba.*in several'):
        prepare(csv=False)
    other.unlink()
    clip_path(source / 'kinetics400', *CLIPS[0]).rename(
        train / 'aaaaaaaaaaa.mp4'
    )
    with pytest.raises(SetupError, match='in no class folder'):
        prepare(csv=False)
    append(LIST, b'')(source)
    with pytest.raises(SetupError, match='val_list_videos.txt does not exist'):
        prepare(csv=False)


def test_faults_of_the_data_are_counted_and_listed(source, prepare, truncate):
    videos = source / 'kinetics400'
    clip_path(videos, *CLIPS[0]).write_bytes(b'')
    moved = clip_path(videos, *CLIPS[1])
    moved.rename(moved.with_name('-bbbbbbbbb-_000050_000060.mp4'))
    bare = clip_path(videos, *CLIPS[3])
    bare.rename(videos / 'ddddddddddd.MP4')
    truncate(clip_path(videos, *CLIPS[6]))
    append(
        'ids/train_ytid_list.txt', b'ddddddddddd\n\nkkkkkkkkkkk\nfffffffffff\n'
    )(source)
    out = prepare('--decode', '--workers', '2')
    unusable = lines(source, 'unusable.txt')
    broken = unusable.pop(2)
    assert broken.startswith('train\tggggggggggg\tbowling\tunreadable: Inv')
    assert unusable == [
        'train\taaaaaaaaaaa\tair drumming\tzero bytes',
        "train\t'-bbbbbbbbb-\tair drumming\tother seconds of the video",
        'train\tiiiiiiiiiii\tabseiling\tmissing',
        'train\tkkkkkkkkkkk\tNone\tnot in the csv files',
        'train\tfffffffffff\tzumba\talso in the val list',
    ]
    assert 'ddddddddddd.MP4\t3' in lines(source, 'train.txt')
    assert '; 1 unreadable; 1 zero bytes\n' in out
    assert '1 repeated ids' in out
    assert 'warning: Mini-Kinetics has 200 classes' in out


def into(place):
    """Move the training clips of one class below another name."""

    def change(source):
        folder = os.fsencode(source / 'kinetics400/videos_train')
        os.rename(os.path.join(folder, b'zumba'), os.path.join(folder, place))

    return change


def dead_links(source):
    for item in CLIPS[3:5]:
        path = clip_path(source / 'kinetics400', *item)
        path.unlink()
        path.symlink_to('nowhere.mp4')


@pytest.mark.parametrize('change, reason', [
    (dead_links, 'dead link'),
    (into(b'zumba\t'), 'path that no list can hold'),
    (into(b'zum\nba'), 'path that no list can hold'),
    (into(b'caf\xe9'), 'path that no list can hold'),
])  # fmt: skip
def test_unusable_clips_are_listed_and_do_not_end_it(
    source, prepare, change, reason
):
    """What is written is read."""
    change(source)
    out = prepare()
    assert 'train: 3 of 6 clips found, 0 to 2 a class; ' in out
    assert f'; 2 {reason}' in out
    assert lines(source, 'unusable.txt')[0] == (
        f'train\tddddddddddd\tzumba\t{reason}'
    )
    rest = [item for item in expected('train') if 'zumba' not in item[0]]
    assert samples()[0] == rest


def bom(name):
    def change(source):
        content = (source / name).read_bytes()
        (source / name).write_bytes(b'\xef\xbb\xbf' + content)

    return change


@pytest.mark.parametrize('harmless', [
    bom('train.csv'),
    bom('ids/train_ytid_list.txt'),
    lambda s: (s / 'ids/val_ytid_list.txt').write_bytes(
        (s / 'ids/val_ytid_list.txt').read_bytes().replace(b'\n', b'\r\n')
    ),
    # of no list, so of no matter
    lambda s: [
        append(f, b'%b,jjjjjjjjjjj,1,11,train,0\n' % label)(s)
        for f, label in (('train.csv', b'yoga'), ('validate.csv', b'golf'))
    ],
    # the same clip under its bare id may be the whole video
    append('kinetics400/videos_train/zumba/ddddddddddd.mp4', b'all of it'),
])  # fmt: skip
def test_harmless_oddities_change_nothing(source, prepare, harmless):
    harmless(source)
    prepare()
    assert samples()[0] == expected('train')
    assert lines(source, 'classes.txt') == CLASSES


ROW = b'zumba,ccccccccccc,1,11,train,0\n'
TIMES = (b'x,9', b'inf,11', b'1,nan', b'-3,7', b'30,7')


@pytest.mark.parametrize('change, message', [
    (append('ids/val_ytid_list.txt', b'too short\n'), "line 4: 'too shor"),
    (append('train.csv', b'caf\xe9,ccccccccccc,1,11,train,0\n'),
     'train.csv, line 9: not UTF-8'),
    (append('train.csv', b'zumba,ddd,1,2,train,0\n'), 'line 9: malformed'),
    (append('train.csv', b'zumba\n'), 'train.csv, line 9: '),
    (append('train.csv', ROW + b'zu\x00mba,jjjjjjjjjjj,1,11,train,0\n'),
     'train.csv, line 10: '),
    (append('train.csv', b'"' + ROW + ROW),
     'train.csv, line 9: unexpected end of data; is a quote left open'),
    (append('train.csv', b'"' + ROW * 5000),
     'train.csv, line 9: field larger than field limit'),
    *(
        (append('train.csv', b'zumba,ccccccccccc,%b,train,0\n' % times),
         'train.csv, line 9: ')
        for times in TIMES
    ),
    (append('validate.csv', b'yoga,ddddddddddd,12,22,val,0\n'),
     "validate.csv, line 6: ('yoga', 12, 22) for 'ddddddddddd', further up"),
    (lambda s: (s / 'train.csv').write_text('youtube_id\nccccccccccc\n'),
     "train.csv, line 2: 'label'; is a quote left open, or one of label"),
    (lambda s: (s / 'train.csv').unlink(), 'train.csv does not exist'),
    (lambda s: (s / 'ids/train_ytid_list.txt').unlink(),
     'train_ytid_list.txt does not exist: --ids takes'),
    (lambda s: (s / 'kinetics400').rename(s / 'elsewhere'),
     '--videos: no folder'),
    (lambda s: [f.unlink() for f in (s / 'kinetics400').rglob('*.mp4')],
     'no usable clip'),
])  # fmt: skip
def test_faults_of_the_lists_end_it_and_nothing_is_lost(
    source, prepare, change, message
):
    prepare()
    before = [lines(source, name) for name in FILES]
    change(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        prepare()
    assert sorted(f.name for f in (source / 'out').iterdir()) == FILES
    assert [lines(source, name) for name in FILES] == before


def test_output_that_cannot_be_written_leaves_the_old_one(
    source, prepare, unwritable
):
    prepare()
    clip_path(source / 'kinetics400', *CLIPS[0]).unlink()
    unwritable(prepare, source / 'out')
    prepare()
    assert len(samples()[0]) == 4


def test_dry_run_writes_nothing(source, prepare):
    out = prepare('--dry-run', '--per-class')
    assert 'train: 5 of 6' in out
    assert '       2  zumba\n' in out
    assert not (source / 'out').exists()


CONFIG = ROOT / 'configs/i3d_r50_cgnl_minikinetics.py'


def test_trains_and_tests_with_data(source, python):
    """The real recipe, only smaller: 8 frames of 32 px, 8 channels."""
    tools = ROOT / 'tools'
    said = python(
        tools / 'data/minikinetics.py', '--ids', 'ids',
        '--csv', 'train.csv', 'validate.csv', '--videos', 'kinetics400',
        '--out', 'out', cwd=source,
    )  # fmt: skip
    assert 'train' in said and '100%' in said  # the bar
    loaders = [f'{n}_dataloader' for n in ('train', 'val', 'test')]
    options = [
        'model.backbone.pretrained=None',
        'model.backbone.base_channels=8',
        'model.cls_head.in_channels=256',
        'train_cfg.max_epochs=1',
        'default_hooks.checkpoint.interval=1',
        'train_dataloader.batch_size=5',
        *(f'{n}.num_workers=0' for n in loaders),
        *(f'{n}.persistent_workers=False' for n in loaders),
        *(f'{n}.dataset.data_root=out' for n in loaders),
        *(f'{n}.dataset.video_root=kinetics400' for n in loaders),
        *(f'{n}.dataset.pipeline.1.clip_len=8' for n in loaders),
        'train_dataloader.dataset.pipeline.3.scale_range=(40,48)',
        'train_dataloader.dataset.pipeline.4.size=32',
        'val_dataloader.dataset.pipeline.3.scale=(-1,40)',
        'val_dataloader.dataset.pipeline.4.crop_size=32',
        'test_dataloader.dataset.pipeline.3.scale=(-1,40)',
        'test_dataloader.dataset.pipeline.4.crop_size=40',
    ]
    python(
        tools / 'train.py', CONFIG, '--work-dir', 'run', '--seed', '0',
        '--cfg-options', *options, cwd=source,
    )  # fmt: skip
    checkpoint = source / 'run/epoch_1.pth'

    state = torch.load(checkpoint)['state_dict']
    assert state['backbone.layer3.cgnl_4.norm.weight'].abs().max() > 0
    said = python(
        tools / 'test.py', CONFIG, checkpoint, '--work-dir', 'run',
        '--cfg-options', *options, cwd=source,
    )  # fmt: skip
    assert 'acc/top1' in said
