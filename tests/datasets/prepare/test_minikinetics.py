"""Mini-Kinetics-200: sources of labels, names of files, a training."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from miniatures import (
    CLIPS,
    CSV,
    FLOWS,
    SPORTS,
    clip_path,
    make_minikinetics,
    make_mmaction,
    write_clip,
)

from cgnl_mm.errors import SetupError

ROOT = Path(__file__).parents[3]
VIDEOS = Path('kinetics400/videos_train')


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A real mp4 file."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    write_clip(path)
    return path.read_bytes()


def lines(name):
    return Path('out', name).read_text().splitlines()


def test_folders_of_mmaction_serve_with_csv_files_too(start):
    run = start('mmaction')
    assert 'labels: from kinetics400_train_list_videos.txt and' in run()
    assert lines('classes.txt') == SPORTS
    assert lines('unusable.txt') == ['train\tiiiiiiiiiii\tabseiling\tmissing']
    assert 'wrote' not in run(options=CSV)


@pytest.mark.parametrize('flat, classes, labels', [
    (('train', 'val'), ['001', '002', '003', '004'], [2, 0, 1]),
    (('val',), SPORTS, [1, 3, 2]),
])  # fmt: skip
def test_flat_folders_of_mmaction(start, samples, flat, classes, labels):
    """Class folders of one split name the classes; without any, numbers."""
    start('mmaction', partial(make_mmaction, flat))()
    assert lines('classes.txt') == classes
    assert [label for _, label in samples('mmaction')[1]] == labels


def test_names_of_class_folders_end_no_line_of_the_classes(start):
    run = start('no_csv')
    (VIDEOS / 'zumba').rename(VIDEOS / 'zum\nba')
    out = run()
    assert 'labels: from the class folders' in out
    assert lines('classes.txt') == [*SPORTS[1:3], 'zum\\nba', 'zumba']
    assert '2 path that no list can hold' in out


def test_folders_of_one_name_are_no_classes(start):
    run = start('no_csv')
    for item in CLIPS:
        place = clip_path('all', *item[1:])
        place.parent.mkdir(exist_ok=True)
        clip_path(*item).rename(place)
    with pytest.raises(SetupError, match="one name, .'all'.* --csv"):
        run()
    assert not Path('out').exists()


def test_class_folders_must_be_clear(start):
    run, other = start('no_csv'), VIDEOS / 'bowling/ddddddddddd.mp4'
    other.write_bytes(b'clip')
    with pytest.raises(SetupError, match='no label for .*zumba.*in several'):
        run()
    other.rename(VIDEOS / 'aaaaaaaaaaa.mp4')
    clip_path(*CLIPS[0]).unlink()
    with pytest.raises(SetupError, match='in no class folder'):
        run()


def append(name, content):
    with open(name, 'ab') as file:
        file.write(content)


def test_faults_of_clips_are_counted_and_listed(start, truncate, clip):
    run = start('csv', partial(make_minikinetics, clip))
    moved = clip_path(*CLIPS[1])
    moved.rename(moved.with_name('-bbbbbbbbb-_000050_000060.mp4'))
    clip_path(*CLIPS[3]).rename('kinetics400/ddddddddddd.MP4')
    truncate(clip_path(*CLIPS[6]))
    more = b'ddddddddddd\n\nkkkkkkkkkkk\nfffffffffff\n'
    append('ids/train_ytid_list.txt', more)
    out = run('--decode', '--workers', '2')
    unusable = lines('unusable.txt')
    broken = unusable.pop(1)
    assert broken.startswith('train\tggggggggggg\tbowling\tunreadable: Inv')
    assert unusable == [
        "train\t'-bbbbbbbbb-\tair drumming\tother seconds of the video",
        'train\tiiiiiiiiiii\tabseiling\tmissing',
        'train\tkkkkkkkkkkk\tNone\tnot in the csv files',
        'train\tfffffffffff\tzumba\talso in the val list',
    ]
    assert 'ddddddddddd.MP4\t3' in lines('train.txt')
    assert '1 repeated ids' in out


@pytest.mark.parametrize('name', [b'zumba\t', b'zum\nba', b'caf\xe9'])
def test_paths_that_no_list_can_hold(start, samples, name):
    """What is written is read."""
    run = start('csv')
    os.rename(VIDEOS / 'zumba', os.path.join(os.fsencode(VIDEOS), name))
    assert '; 2 path that no list can hold' in run()
    assert lines('unusable.txt')[0] == (
        'train\tddddddddddd\tzumba\tpath that no list can hold'
    )
    whole = FLOWS['csv'].reads[0][1]
    rest = [item for item in whole if 'zumba' not in item[0]]
    assert samples('csv')[0] == rest


def test_harmless_oddities_change_nothing(start, samples):
    run = start('csv')
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
    assert samples('csv') == [rows for _, rows in FLOWS['csv'].reads]
    assert lines('classes.txt') == SPORTS


def test_trains_and_tests_with_data(start, clip, python, tmp_path):
    """The real recipe, only smaller: 8 frames of 32 px, 8 channels."""
    start('csv', partial(make_minikinetics, clip))
    tools, config = ROOT / 'tools', 'configs/i3d_r50_cgnl_minikinetics.py'
    script = tools / 'data/minikinetics.py'
    said = python(script, *CSV.split(), cwd=tmp_path)
    assert 'train' in said and '100%' in said  # the bar
    of = '{}_dataloader.{}'.format
    options = [
        'model.backbone.pretrained=None',
        'model.backbone.base_channels=8',
        'model.cls_head.in_channels=256',
        'train_cfg.max_epochs=1',
        'default_hooks.checkpoint.interval=1',
        of('train', 'batch_size=5'),
        of('train', 'dataset.pipeline.3.scale_range=(40,48)'),
        of('train', 'dataset.pipeline.4.size=32'),
        of('val', 'dataset.pipeline.4.crop_size=32'),
        of('test', 'dataset.pipeline.4.crop_size=40'),
        *(of(n, 'dataset.pipeline.3.scale=(-1,40)') for n in ('val', 'test')),
    ]
    for name in ('train', 'val', 'test'):
        options += [
            of(name, 'num_workers=0'),
            of(name, 'persistent_workers=False'),
            of(name, 'dataset.data_root=out'),
            of(name, 'dataset.video_root=kinetics400'),
            of(name, 'dataset.pipeline.1.clip_len=8'),
        ]
    common = '--work-dir', 'run', '--cfg-options', *options
    config, checkpoint = ROOT / config, tmp_path / 'run/epoch_1.pth'
    python(tools / 'train.py', config, '--seed', '0', *common, cwd=tmp_path)
    state = torch.load(checkpoint)['state_dict']
    assert state['backbone.layer3.cgnl_4.norm.weight'].abs().max() > 0
    said = python(tools / 'test.py', config, checkpoint, *common, cwd=tmp_path)
    assert 'acc/top1' in said
