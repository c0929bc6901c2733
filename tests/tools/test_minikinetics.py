"""Mini-Kinetics, from what the user downloads to a trained network."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cgnl_mm.datasets.moving_digits import write_video
from cgnl_mm.errors import SetupError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/data/minikinetics.py'
# label, id, start, end, split, folder; ids with '-' and '_' at either end
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


def clip_path(videos, label, clip, start, end, split):
    name = f'{clip}_{start:06d}_{end:06d}.mp4'
    return videos / f'videos_{split}' / label / name


@pytest.fixture
def source(tmp_path):
    """The id lists, csv files and clips in their original layouts."""
    rng = np.random.default_rng(0)
    videos = tmp_path / 'kinetics400'
    for clip in CLIPS:
        path = clip_path(videos, *clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = rng.integers(0, 255, (20, 64, 64), dtype=np.uint8)
        write_video(path, frames)
    ids = tmp_path / 'ids'
    ids.mkdir()
    header = 'label,youtube_id,time_start,time_end,split,is_cc\n'
    for split, csv_split in (('train', 'train'), ('val', 'validate')):
        clips = [c for c in [*CLIPS, LOST] if c[4] == split]
        (ids / f'{split}_ytid_list.txt').write_text(
            ''.join(f'{c[1]}\n' for c in clips)
        )
        (tmp_path / f'{csv_split}.csv').write_text(
            header
            + ''.join(f'{",".join(map(str, c))},0\n' for c in clips)
            + 'yoga,zzzzzzzzzzz,0,10,train,0\n'
        )
    return tmp_path


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('minikinetics', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / 'tools'))


@pytest.fixture
def prepare(script, source, capsys):
    """Run the script in this process; returns what it prints."""

    def run(*options):
        argv = [
            '--ids', source / 'ids',
            '--csv', source / 'train.csv', source / 'validate.csv',
            '--videos', source / 'kinetics400', '--out', source / 'out',
            '--quiet', *options,
        ]  # fmt: skip
        capsys.readouterr()
        script.main([str(a) for a in argv])
        return capsys.readouterr().out

    return run


def lines(source, name):
    return (source / 'out' / name).read_text().splitlines()


def test_writes_what_the_data_set_reads(source, prepare):
    """Also the labels: sorted names, with the class that has no clip."""
    out = prepare()
    classes = lines(source, 'classes.txt')
    assert classes == ['abseiling', 'air drumming', 'bowling', 'zumba']
    for split in ('train', 'val'):
        expected = [
            f'{clip_path(Path(), *c)}\t{classes.index(c[0])}'
            for c in CLIPS
            if c[4] == split
        ]
        assert lines(source, f'{split}.txt') == expected
    assert lines(source, 'unusable.txt') == [
        'train\tiiiiiiiiiii\tabseiling\tmissing'
    ]
    assert 'train: 5 of 6 clips found, 0 to 2 a class; 1 missing' in out
    before = lines(source, 'train.txt')
    prepare()
    assert lines(source, 'train.txt') == before


def test_faults_of_the_data_are_counted_and_listed(source, prepare):
    videos, ids = source / 'kinetics400', source / 'ids'
    clip_path(videos, *CLIPS[0]).write_bytes(b'')
    moved = clip_path(videos, *CLIPS[1])
    moved.rename(moved.with_name('-bbbbbbbbb-_000050_000060.mp4'))
    bare = clip_path(videos, *CLIPS[3])
    bare.rename(videos / 'ddddddddddd.MP4')
    with (ids / 'train_ytid_list.txt').open('a') as file:
        file.write('ddddddddddd\n\nkkkkkkkkkkk\nfffffffffff\n')
    out = prepare()
    assert lines(source, 'unusable.txt') == [
        'train\taaaaaaaaaaa\tair drumming\tzero bytes',
        'train\t-bbbbbbbbb-\tair drumming\tother seconds of the video',
        'train\tiiiiiiiiiii\tabseiling\tmissing',
        'train\tkkkkkkkkkkk\tNone\tnot in the csv files',
        'train\tfffffffffff\tzumba\talso in the val list',
    ]
    assert 'ddddddddddd.MP4\t3' in lines(source, 'train.txt')
    assert '1 repeated ids' in out
    assert 'warning: Mini-Kinetics has 200 classes' in out


def append(name, text):
    def fault(source):
        with (source / name).open('a') as file:
            file.write(text)

    return fault


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        (append('ids/val_ytid_list.txt', 'too short\n'), "line 4: 'too short"),
        (append('train.csv', 'zumba,ddd,1,2,train,0\n'), 'line 9: malformed'),
        (append('train.csv', 'zumba\n'), 'train.csv, line 9: malformed'),
        (
            append('train.csv', 'a,lllllllllll,x,9,train,0\n'),
            "line 9: times must be seconds, got 'x', '9'",
        ),
        (
            append('train.csv', 'yoga,ddddddddddd,12,22,train,0\n'),
            'line 9: ddddddddddd is',
        ),
        (
            lambda s: (s / 'train.csv').write_text('youtube_id\n'),
            'has no column label, time_end, time_start',
        ),
        (lambda s: (s / 'train.csv').unlink(), 'train.csv does not exist'),
        (
            lambda s: (s / 'ids/train_ytid_list.txt').unlink(),
            'train_ytid_list.txt does not exist: --ids takes',
        ),
        (
            lambda s: (s / 'kinetics400').rename(s / 'elsewhere'),
            '--videos: no folder',
        ),
        (
            lambda s: [
                f.unlink() for f in (s / 'kinetics400').rglob('*.mp4')
            ],
            'no usable clip',
        ),
    ],
)
def test_faults_of_the_lists_end_it_and_nothing_is_lost(
    source, prepare, fault, message
):
    prepare()
    before = lines(source, 'train.txt')
    fault(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        prepare()
    assert lines(source, 'train.txt') == before
    assert len(list((source / 'out').iterdir())) == 4


def test_dry_run_writes_nothing(source, prepare):
    assert 'train: 5 of 6' in prepare('--dry-run')
    assert not (source / 'out').exists()


def tool(name, *args, cwd):
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / name, *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )


CONFIG = ROOT / 'configs/i3d_r50_cgnl_minikinetics.py'


def test_without_data_one_message_says_what_to_do(tmp_path):
    result = tool('train.py', CONFIG, cwd=tmp_path)
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-2:]
    assert last[0].startswith(
        'error: data/minikinetics/train.txt does not exist'
    )
    assert last[1].startswith('  python tools/data/minikinetics.py --ids')
    assert 'Traceback' not in result.stderr


def test_trains_and_tests_with_data(source):
    """The real recipe, only smaller: 8 frames of 32 px, 8 channels."""
    result = tool(
        'data/minikinetics.py', '--ids', 'ids',
        '--csv', 'train.csv', 'validate.csv', '--videos', 'kinetics400',
        '--out', 'out', cwd=source,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
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
    result = tool(
        'train.py', CONFIG, '--work-dir', 'run', '--seed', '0',
        '--cfg-options', *options, cwd=source,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = source / 'run/epoch_1.pth'

    state = torch.load(checkpoint, weights_only=True)['state_dict']
    assert state['backbone.layer3.cgnl_4.norm.weight'].abs().max() > 0
    result = tool(
        'test.py', CONFIG, checkpoint, '--work-dir', 'run',
        '--cfg-options', *options, cwd=source,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert 'acc/top1' in result.stdout + result.stderr
