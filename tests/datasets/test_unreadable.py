"""Broken files in the data sets of the three hosts: real ones, each kind."""

import errno
import os
import pickle
import resource
import signal
import socket
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from miniatures import write_clip
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DefaultScope
from PIL import Image
from torch.utils.data import DataLoader

import cgnl_mm  # noqa: F401
from cgnl_mm.datasets import decode
from cgnl_mm.datasets.decode import check_file
from cgnl_mm.datasets.mp4 import find_wild_index
from cgnl_mm.datasets.unreadable import find_fault, guard, leaves
from cgnl_mm.errors import SetupError, UnreadableFileError

RNG = np.random.default_rng(0)


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


IMAGE_FAULTS = ('missing', 'zero bytes', 'truncated', 'text')
CLIP_FAULTS = (*IMAGE_FAULTS, 'audio only', 'no frame', 'index first')


def damage(path, kind, share):
    """Give the file a fault that files of any format may have."""
    if kind == 'missing':
        path.unlink()
    elif kind == 'zero bytes':
        path.write_bytes(b'')
    elif kind == 'truncated':
        cut(path, share)
    elif kind == 'text':
        path.write_text('<html>404</html>')


def break_clip(path, kind):
    """Leave a broken file at ``path``."""
    if kind == 'index first':
        write_clip(path, frames=200, movflags='faststart')
        cut(path, 0.2)
    else:
        frames = 0 if kind == 'no frame' else 24
        write_clip(path, frames, audio=kind == 'audio only')
        damage(path, kind, 0.5)


def break_image(path, kind):
    write_image(path)
    damage(path, kind, 0.6)


def write_image(path, kind=None):
    image = RNG.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(path, kind)


def build(host, cfg):
    registry = import_module(f'{host}.registry').DATASETS
    with DefaultScope.overwrite_default_scope(host):
        return registry.build(cfg)


SAMPLE = dict(type='SampleFrames', clip_len=8, frame_interval=1, num_clips=1)
PACK = [
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def videos(folder, decoder='Decord', name='VideoDataset', **settings):
    """A whole clip, if there is none, and whatever lies at bad.mp4."""
    if not (folder / 'good.mp4').exists():
        write_clip(folder / 'good.mp4')
    steps = dict(type=f'{decoder}Init'), SAMPLE, dict(type=f'{decoder}Decode')
    (folder / 'list.txt').write_text('good.mp4 0\nbad.mp4 0\n')
    return build('mmaction', dict(
        settings,
        type=name,
        ann_file=str(folder / 'list.txt'),
        data_prefix=dict(video=str(folder)),
        pipeline=[*steps, *PACK],
    ))  # fmt: skip


def repeated(folder):
    """mmaction2's, which calls the transforms past the pipeline."""
    return videos(folder, name='RepeatAugDataset', num_repeats=2)


@pytest.fixture
def skipped():
    """What was skipped, by path."""
    return {}


def guarded(data_set, skipped=None):
    on_fault = None if skipped is None else skipped.__setitem__
    guard(data_set, on_fault)
    return data_set


@pytest.mark.parametrize('kind', CLIP_FAULTS)
@pytest.mark.parametrize('decoder', ['Decord', 'PyAV', 'OpenCV'])
def test_broken_clip_gives_way_to_another(tmp_path, skipped, decoder, kind):
    """In training; it ends a test."""
    break_clip(tmp_path / 'bad.mp4', kind)
    data_set = guarded(videos(tmp_path, decoder), skipped)
    np.random.seed(0)
    assert data_set[1]['inputs'].shape == (1, 3, 8, 64, 64)
    assert list(skipped) == [str(tmp_path / 'bad.mp4')]
    if kind == 'missing':
        assert list(skipped.values()) == ['missing']
    with pytest.raises(UnreadableFileError, match='bad.mp4: .*annotation'):
        guarded(videos(tmp_path, decoder, test_mode=True))[1]


def frames(folder, modality):
    """Two folders of frames as RawFrameDecode wants them."""
    names = dict(RGB='img_{:05}.jpg', Flow='{}_{:05}.jpg')
    for clip in ('good', 'bad'):
        (folder / clip).mkdir()
        for number in range(1, 9):
            for axis in 'xy' if modality == 'Flow' else ' ':
                fields = (axis, number)[modality == 'RGB' :]
                write_image(folder / clip / names[modality].format(*fields))
    (folder / 'list.txt').write_text('good 8 0\nbad 8 0\n')
    return build('mmaction', dict(
        type='RawframeDataset',
        ann_file=str(folder / 'list.txt'),
        data_prefix=dict(img=str(folder)),
        filename_tmpl=names[modality],
        modality=modality,
        pipeline=[
            SAMPLE,
            dict(type='RawFrameDecode'),
            dict(type='Resize', scale=(16, 16), keep_ratio=False),
            *PACK,
        ],
    ))  # fmt: skip


@pytest.mark.parametrize('kind', IMAGE_FAULTS)
@pytest.mark.parametrize('modality', ['RGB', 'Flow'])
def test_broken_frame_gives_way_to_another_clip(
    tmp_path, skipped, modality, kind
):
    data_set = frames(tmp_path, modality)
    name = 'y_00005.jpg' if modality == 'Flow' else 'img_00005.jpg'
    break_image(tmp_path / 'bad' / name, kind)
    np.random.seed(0)
    sample = guarded(data_set, skipped)[1]
    assert sample['inputs'].shape[-3:] == (8, 16, 16)
    ((path, reason),) = skipped.items()
    assert path == str(tmp_path / 'bad')
    assert reason.endswith(f': {name}')
    if kind in ('missing', 'zero bytes'):
        assert reason == f'{kind}: {name}'


def test_broken_pipeline_of_frames_stays_an_error(tmp_path, skipped):
    """One that reads no broken frame."""
    data_set = frames(tmp_path, 'RGB')
    write_image(tmp_path / 'bad/img_00009.jpg')
    cut(tmp_path / 'bad/img_00009.jpg', 0.5)
    del data_set.pipeline.transforms[3]  # FormatShape
    data_set.pipeline.transforms[2].scale = None
    with pytest.raises(Exception) as error:
        guarded(data_set, skipped)[1]
    assert not isinstance(error.value, UnreadableFileError)
    assert not skipped


def scenes(folder):
    return build('mmdet', dict(
        type='DigitScenes', data_root=str(folder / 'd'), num_train=2,
        num_test=1,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=()),
        ],
    ))  # fmt: skip


@pytest.mark.parametrize('kind', IMAGE_FAULTS)
@pytest.mark.parametrize('source', ['mmdet', 'jpg', 'png'])
def test_broken_image_gives_way_to_another(tmp_path, skipped, source, kind):
    if source == 'mmdet':
        data_set = scenes(tmp_path)
    else:
        write_image(tmp_path / f'0.{source}')
        data_set = pictures(tmp_path, f'0.{source}', f'1.{source}')
    bad = data_set.get_data_info(1)['img_path']
    break_image(Path(bad), kind)
    np.random.seed(0)
    assert guarded(data_set, skipped)[1]['inputs'].ndim == 3
    assert list(skipped) == [bad]


def pictures(folder, *names, steps=(), **loader):
    """mmpretrain's, not in test_mode, as it is by default in evaluations."""
    (folder / 'list.txt').write_text(''.join(f'{n} 0\n' for n in names))
    return build('mmpretrain', dict(
        type='CustomDataset', data_root=str(folder), data_prefix='',
        ann_file='list.txt',
        pipeline=[
            dict(type='LoadImageFromFile', **loader),
            *steps,
            dict(type='PackInputs'),
        ],
    ))  # fmt: skip


def test_broken_pipeline_stays_an_error(tmp_path, skipped):
    """The clips are whole: it is the config that is wrong."""
    write_clip(tmp_path / 'bad.mp4')
    data_set = videos(tmp_path)
    del data_set.pipeline.transforms[1]  # SampleFrames
    with pytest.raises(KeyError, match='frame_inds'):
        guarded(data_set, skipped)[1]
    assert not skipped


def test_leaves_of_wrappers(tmp_path):
    one, two = (videos(tmp_path) for _ in '12')
    assert list(leaves(RepeatDataset(one, 2))) == [one]
    assert list(leaves(ConcatDataset([one, two]))) == [one, two]


def test_missing_file_of_a_transform_stays_an_error(tmp_path, skipped):
    write_image(tmp_path / 'good.png')
    missing = str(tmp_path / 'stats.json')
    data_set = pictures(tmp_path, 'good.png', steps=[lambda x: open(missing)])
    with pytest.raises(FileNotFoundError, match='stats.json'):
        guarded(data_set, skipped)[0]
    assert not skipped
    # but an image that is broken as well is skipped for itself
    cut(tmp_path / 'good.png', 0.6)
    assert data_set.pipeline(data_set.get_data_info(0)) is None
    assert skipped[str(tmp_path / 'good.png')].startswith('OSError: ')


def test_missing_map_of_a_sample_is_its_fault(tmp_path, skipped):
    """Semantic segmentation reads a second file of each sample."""
    write_image(tmp_path / 'a.png')
    sample = dict(
        img_path=str(tmp_path / 'a.png'),
        seg_map_path=str(tmp_path / 'map.png'),
    )
    data_set = pictures(
        tmp_path, 'a.png', steps=[lambda x: open(x['seg_map_path'])]
    )
    assert guarded(data_set, skipped).pipeline(sample) is None
    assert 'map.png' in skipped[str(tmp_path / 'a.png')]


@pytest.fixture
def without_descriptors():
    """A function after which this process may open nothing."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 3, limits[1]
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, low)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_many_open_files_stay_an_error(
    tmp_path, skipped, without_descriptors
):
    write_image(tmp_path / 'good.png')
    data_set = guarded(pictures(tmp_path, 'good.png'), skipped)
    data_set[0]  # what is imported at first use is
    assert check_file(str(tmp_path / 'good.png')) is None
    without_descriptors()
    with pytest.raises(OSError) as error:
        data_set[0]
    assert error.value.errno == errno.EMFILE
    assert not skipped


@pytest.mark.parametrize('number', ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOSPC'])
def test_errors_of_the_machine_are_none_of_a_whole_file(tmp_path, number):
    path = tmp_path / 'a.png'
    write_image(path)
    error = OSError(getattr(errno, number), 'no room', str(path))
    assert find_fault(dict(img_path=str(path)), error) is None
    assert find_fault(dict(img_path='s3://bucket/a.png'), error) is None
    assert find_fault(dict(img_path=['a.png', 'b.png']), error) is None
    cut(path, 0.6)
    assert find_fault(dict(img_path=path), error).startswith('OSError: ')
    # of the file, though the next attempt may succeed
    error = OSError(errno.EIO, 'input/output error')
    assert 'input/output' in find_fault(dict(img_path=str(path)), error)


@pytest.mark.parametrize('kind', ['ICO', 'DDS', 'PCX', 'TGA', 'SGI'])
def test_images_that_only_pillow_reads_give_way(tmp_path, skipped, kind):
    write_image(tmp_path / '0.jpg')
    write_image(tmp_path / '1.jpg', kind)
    data_set = guarded(pictures(tmp_path, '0.jpg', '1.jpg'), skipped)
    np.random.seed(0)
    assert data_set[1]['inputs'].shape == (3, 32, 32)
    assert skipped == {
        str(tmp_path / '1.jpg'): (
            f'foreign format: Pillow reads it ({kind}), OpenCV does not'
        )
    }


@pytest.mark.parametrize('kind', ['missing', 'zero bytes', 'text'])
def test_file_that_a_loader_ignores_is_reported(tmp_path, skipped, kind):
    """``ignore_empty`` swallows what the file raises."""
    write_image(tmp_path / '0.jpg')
    break_image(tmp_path / '1.jpg', kind)
    data_set = pictures(tmp_path, '0.jpg', '1.jpg', ignore_empty=True)
    np.random.seed(0)
    assert guarded(data_set, skipped)[1]['inputs'].shape == (3, 32, 32)
    ((path, reason),) = skipped.items()
    assert path == str(tmp_path / '1.jpg')
    # and ends a test
    data_set = pictures(tmp_path, '0.jpg', '1.jpg', ignore_empty=True)
    with pytest.raises(UnreadableFileError) as error:
        guarded(data_set)[1]
    assert f'1.jpg: {reason}' in str(error.value)
    if kind != 'text':
        assert reason == kind


def test_remote_file_that_a_loader_ignores_is_reported(
    skipped, tmp_path, monkeypatch
):
    """No server answers: the port is taken, and nobody listens at it."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    data_set = pictures(tmp_path, 'a.jpg', ignore_empty=True)
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{taken.getsockname()[1]}/a.jpg'
        assert guarded(data_set, skipped).pipeline(dict(img_path=url)) is None
    assert skipped == {
        url: 'LoadImageFromFile(ignore_empty=True) could not load it'
    }


class Drop:
    """Refuses one sample, as mmdet's crops do where no box is left."""

    def __call__(self, data):
        return None if '1.png' in data['img_path'] else data


def test_sample_that_a_transform_drops_is_no_fault(tmp_path, skipped):
    """It ends a test."""
    for name in ('0.png', '1.png'):
        write_image(tmp_path / name)
    data_set = pictures(tmp_path, '0.png', '1.png', steps=[Drop()])
    with pytest.raises(SetupError, match='1.png: Drop returned None .* take'):
        guarded(data_set)[1]
    assert guarded(data_set)[0]
    np.random.seed(0)
    guarded(data_set, skipped)
    assert '0.png' in data_set[1]['data_samples'].img_path
    # the same before anything is loaded
    data_set.pipeline.transforms.insert(0, data_set.pipeline.transforms.pop(1))
    assert '0.png' in data_set[1]['data_samples'].img_path
    assert not skipped


@pytest.mark.parametrize('kind', ['missing', 'truncated', 'no frame'])
def test_broken_clip_of_repeated_augmentation(tmp_path, skipped, kind):
    break_clip(tmp_path / 'bad.mp4', kind)
    data_set = guarded(repeated(tmp_path), skipped)
    np.random.seed(0)
    assert [x['inputs'].shape for x in data_set[1]] == [(1, 3, 8, 64, 64)] * 2
    assert list(skipped) == [str(tmp_path / 'bad.mp4')]
    with pytest.raises(UnreadableFileError, match='bad.mp4'):
        guarded(repeated(tmp_path))[1]


def test_repeated_augmentation_of_whole_clips(tmp_path):
    """Also in a worker that is spawned."""
    write_clip(tmp_path / 'bad.mp4')
    data_set = guarded(repeated(tmp_path))
    assert len(pickle.loads(pickle.dumps(data_set))[1]) == 2
    del data_set.pipeline.transforms[2]  # DecordDecode
    with pytest.raises(KeyError, match='imgs'):
        data_set[1]


def test_names_in_errors_move_no_cursor(tmp_path):
    """Nor in the reason, which names a frame."""
    write_image(tmp_path / 'a.png')
    data_set = pictures(tmp_path, 'a.png')
    path = tmp_path / 'clip/x\x1b[2J.png'
    path.parent.mkdir()
    path.write_bytes(b'')
    for sample in (dict(img_path=str(path)), dict(frame_dir=str(path.parent))):
        with pytest.raises(UnreadableFileError, match=r'x\\x1b\[2J') as error:
            guarded(data_set).pipeline(sample)
        assert str(error.value).isprintable()


# Where in an mp4 file decord would end the process: bytes behind a name.
WILD = dict(
    stco=(12, 'ffffffff'), stts=(12, '7fffffff'), stsz=(16, '0000ffff')
)


@pytest.mark.parametrize('table', WILD)
def test_wild_index_of_a_clip_is_a_fault(tmp_path, skipped, table):
    write_clip(tmp_path / 'bad.mp4')
    assert find_wild_index(tmp_path / 'bad.mp4') is None
    content = bytearray((tmp_path / 'bad.mp4').read_bytes())
    start = content.index(table.encode()) + WILD[table][0]
    content[start : start + 4] = bytes.fromhex(WILD[table][1])
    (tmp_path / 'bad.mp4').write_bytes(content)
    told = 'broken index: it leads behind the end of the file'
    assert find_wild_index(tmp_path / 'bad.mp4') == told
    np.random.seed(0)
    assert guarded(videos(tmp_path), skipped)[1]
    assert list(skipped.values()) == [told]
    # as from a class that calls no pipeline
    with pytest.raises(UnreadableFileError, match='broken index'):
        guarded(repeated(tmp_path))[1]


def test_pipe_in_a_list_is_not_opened(tmp_path, skipped, monkeypatch):
    """It would wait for a writer for ever."""
    monkeypatch.setattr(decode, 'PATIENCE', 5.0)
    os.mkfifo(tmp_path / 'bad.mp4')
    np.random.seed(0)
    assert guarded(videos(tmp_path), skipped)[1]
    assert list(skipped.values()) == ['no regular file']


def test_file_that_never_answers_is_given_up(tmp_path, skipped, monkeypatch):
    """In a worker, too; a folder is not looked at once more."""
    monkeypatch.setattr(decode, 'PATIENCE', 0.2)
    write_image(tmp_path / '0.png')
    end, _ = os.pipe()
    wait = lambda x: os.read(end, 1)  # noqa: E731
    data_set = guarded(pictures(tmp_path, '0.png', steps=[wait]), skipped)
    assert data_set.pipeline(data_set.get_data_info(0)) is None
    told = 'TimeoutError: no answer in 0.2 seconds'
    assert list(skipped.values()) == [told]
    data_set = guarded(pictures(tmp_path, '0.png', steps=[wait]))
    loader = DataLoader(data_set, num_workers=1)
    with pytest.raises(UnreadableFileError, match=f'0.png: {told}'):
        next(iter(loader))


def test_time_in_which_a_process_was_stopped_does_not_count(monkeypatch):
    """As after Ctrl-Z, the alarm arrives late."""
    monkeypatch.setattr(decode, 'PATIENCE', 0.1)
    with decode.time_limit():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(1.2)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    assert not any(signal.getitimer(signal.ITIMER_REAL))


def test_backend_is_no_fault_of_a_file(tmp_path):
    """A name that mmcv does not know, or a package that is not there."""
    path = tmp_path / 'a.png'
    Image.new('RGB', (8, 8)).save(path)
    for backend in ('turbojpeg', 'tifffile', 'nonsense'):
        error = ValueError(f'backend: {backend} is not supported')
        assert find_fault(dict(img_path=path), error, None, backend) is None


def test_opencv_reads_what_pillow_does_not(tmp_path):
    import cv2

    path = str(tmp_path / 'a.hdr')
    cv2.imwrite(path, np.ones((8, 8, 3), np.float32))
    assert check_file(path, 'cv2') is None
    assert 'UnidentifiedImageError' in check_file(path, 'pillow')
    Path(path).write_text('no picture')
    assert 'UnidentifiedImageError' in check_file(path, 'cv2')
