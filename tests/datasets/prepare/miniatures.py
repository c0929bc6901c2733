"""Miniatures of the data sets, written to the working directory."""

from pathlib import Path

import av
import numpy as np
from PIL import Image


def contents():
    """All files below the working directory, with their bytes."""
    return {
        path: path.read_bytes() for path in Path().rglob('*') if path.is_file()
    }


def write_jpeg(path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, 'JPEG')


def write_clip(path, frames=24, audio=False, **options):
    """Write a real mp4 with noise; ``audio`` alone has no picture."""
    rng = np.random.default_rng(0)
    with av.open(str(path), 'w', options=options) as container:
        if audio:
            stream = container.add_stream('aac', rate=44100, layout='mono')
            silence = np.zeros((1, 1024), np.float32)
            sound = av.AudioFrame.from_ndarray(silence, 'fltp', 'mono')
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
        else:
            stream = container.add_stream('libx264', rate=24)
            stream.width = stream.height = 64
            for _ in range(frames):
                image = rng.integers(0, 256, (64, 64, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_lines(path, lines, end='\n'):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{line}{end}' for line in lines), newline='')


# --- Mini-Kinetics-200: class, id, start, end, split

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
OTHER = ('yoga', 'z' * 11, 0, 10, 'train')  # in no id list
SPORTS = ['abseiling', 'air drumming', 'bowling', 'zumba']


def clip_path(label, clip, start, end, split):
    name = f'{clip}_{start:06d}_{end:06d}.mp4'
    return Path('kinetics400', f'videos_{split}', label, name)


def make_minikinetics(content=b'clip'):
    """The id lists, csv files and clips in their original layouts."""
    for item in CLIPS:
        clip_path(*item).parent.mkdir(parents=True, exist_ok=True)
        clip_path(*item).write_bytes(content)
    header = 'label,youtube_id,time_start,time_end,split,is_cc'
    for split, csv in (('train', 'train'), ('val', 'validate')):
        clips = [c for c in [*CLIPS, LOST] if c[4] == split]
        write_lines(f'ids/{split}_ytid_list.txt', (c[1] for c in clips))
        rows = [f'{",".join(map(str, c))},0' for c in [*clips, OTHER]]
        write_lines(f'{csv}.csv', [header, *rows])


# --- UCF101: CRLF, test lists without labels; the original spells one class
# and its clips differently

ACTIONS = ['ApplyEyeMakeup', 'HandstandPushups', 'YoYo']
GROUPS = range(1, 7)  # in each split, two others are for the test


def action(name, group):
    stem = name.replace('stand', 'Stand')
    return f'{name}/v_{stem}_g{group:02d}_c01.avi'


def actions(split, test):
    return [
        (action(name, group), label)
        for label, name in enumerate(ACTIONS)
        for group in GROUPS
        if (group in (2 * split - 1, 2 * split)) == test
    ]


def make_ucf101():
    folder = Path('ucfTrainTestlist')
    rows = (f'{i} {name}' for i, name in enumerate(ACTIONS, 1))
    write_lines(folder / 'classInd.txt', rows, '\r\n')
    for split in (1, 2, 3):
        rows = (f'{name} {label + 1}' for name, label in actions(split, False))
        write_lines(folder / f'trainlist0{split}.txt', rows, '\r\n')
        rows = (name for name, _ in actions(split, True))
        write_lines(folder / f'testlist0{split}.txt', rows, '\r\n')
    for name in ACTIONS:
        for group in GROUPS:
            write_lines(Path('data/ucf101/videos', action(name, group)), 'x')
