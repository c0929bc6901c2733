"""Miniatures of the data sets, written to the working directory."""

import json
from pathlib import Path
from typing import Callable, NamedTuple

import av
import numpy as np
from PIL import Image
from scipy.io import savemat


class Flow(NamedTuple):
    """One way through a script, and what the host then reads.

    ``reads`` holds settings of the host's data set, and its samples as
    (path, label).
    """

    script: str
    make: Callable
    options: str
    host: str
    data_set: str
    root: str
    reads: list


def contents():
    """All below the working directory: bytes and time of each file."""
    return {
        path: path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path().rglob('*')
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


# --- COCO 2017, with gaps in the categories' ids as published

COCO_SPLITS = dict(train2017=4, val2017=2)


def make_coco():
    from mmdet.datasets import CocoDataset

    categories = [
        dict(id=i + 1 + i // 10, name=name)
        for i, name in enumerate(CocoDataset.METAINFO['classes'])
    ]
    for split, number in COCO_SPLITS.items():
        images, annotations = [], []
        for index in range(number):
            name = f'{index + 7:012d}.jpg'
            write_jpeg(Path('data/coco', split, name))
            size = dict(height=48, width=48)
            images.append(dict(id=index + 7, file_name=name, **size))
            annotations += [
                dict(
                    id=len(annotations) + 1 + i,
                    image_id=index + 7,
                    category_id=categories[index + i]['id'],
                    bbox=[4.5, 5, 20, 30.25],
                    area=605.0,
                    iscrowd=0,
                    segmentation=[[4, 5, 24, 5, 24, 35, 4, 35]],
                )
                for i in (0, 1)
            ]
        content = dict(
            images=images, annotations=annotations, categories=categories
        )
        path = f'data/coco/annotations/instances_{split}.json'
        write_lines(path, [json.dumps(content)], end='')


COCO_READS = [
    (
        dict(
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img=f'{split}/'),
        ),
        [
            (f'data/coco/{split}/{i + 7:012d}.jpg', [i, i + 1])
            for i in range(number)
        ],
    )
    for split, number in COCO_SPLITS.items()
]

# --- CUB-200-2011: of each class 2 images for training, 1 for the test

BIRDS = ['001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Ani']
CUB_IMAGES = [
    (f'{name}/{name[4:]}_{number:04d}_{number}.jpg', label, number < 3)
    for label, name in enumerate(BIRDS)
    for number in (1, 2, 3)
]


def make_cub():
    root = Path('data/CUB_200_2011')
    for path, *_ in CUB_IMAGES:
        write_jpeg(root / 'images' / path)
    tables = dict(
        images=[path for path, *_ in CUB_IMAGES],
        image_class_labels=[label + 1 for _, label, _ in CUB_IMAGES],
        train_test_split=[int(train) for *_, train in CUB_IMAGES],
        classes=BIRDS,
    )
    for name, values in tables.items():
        lines = (f'{i} {value}' for i, value in enumerate(values, 1))
        write_lines(root / f'{name}.txt', lines)


def make_author_lists():
    """As other trees have them: paths from above images/, not in order."""
    make_cub()
    for name, of in (('train', True), ('val', False)):
        rows = [
            f'{p} {label}' for p, label, train in CUB_IMAGES if train == of
        ]
        if of:
            rows = [f'./images/{row}' for row in rows[::-1]]
        write_lines(f'lists/{name}.list', rows)


def cub_reads(root, order=1):
    return [
        (
            dict(split=split),
            [
                (f'{root}/images/{path}', label)
                for path, label, train in CUB_IMAGES
                if train == (split == 'train')
            ][:: order if split == 'train' else 1],
        )
        for split in ('train', 'test')
    ]


# --- ImageNet-1k: val/ is flat; the kit numbers the classes otherwise

WNIDS = ['n01440764', 'n01443537', 'n02119789']
KIT = ['n02119789', 'n01440764', 'n01443537']
TRUTH = 'ILSVRC2012_validation_ground_truth.txt'
TRAIN = [f'{name}/{name}_{i}.JPEG' for name in WNIDS for i in (10, 18)]
VAL = [
    (f'ILSVRC2012_val_{number:08d}.JPEG', label)
    for number, label in enumerate((2, 0, 1, 1, 0), 1)
]


def make_imagenet():
    for name in TRAIN:
        write_jpeg(Path('data/imagenet/train', name))
    for name, _ in VAL:
        write_jpeg(Path('data/imagenet/val', name))
    truth = [KIT.index(WNIDS[label]) + 1 for _, label in VAL]
    write_lines(f'devkit/data/{TRUTH}', truth)
    rows = [*((w, 0) for w in KIT), ('n00001740', 3)]  # and one above them
    fields = 'ILSVRC2012_ID', 'WNID', 'num_children'
    synsets = np.zeros(len(rows), [(name, object) for name in fields])
    for number, (wnid, children) in enumerate(rows, 1):
        synsets[number - 1] = float(number), wnid, float(children)
    savemat('devkit/data/meta.mat', dict(synsets=synsets))
    write_lines('labels.txt', (f'{name} {label}' for name, label in VAL))
    write_lines('wnids.txt', (f'x/{n} {WNIDS[label]}' for n, label in VAL))


def make_imagenet_folders():
    make_imagenet()
    for name, label in VAL:
        write_jpeg(Path('data/imagenet/val', WNIDS[label], name))
        Path('data/imagenet/val', name).unlink()


def imagenet_reads(val=VAL):
    classes = dict(metainfo=dict(classes=WNIDS))
    rows = dict(train=[(n, WNIDS.index(n[:9])) for n in TRAIN], val=val)
    return [
        (
            dict(classes, split=split),
            [(f'data/imagenet/{split}/{name}', label) for name, label in of],
        )
        for split, of in rows.items()
    ]


IN_FOLDERS = sorted((f'{WNIDS[label]}/{name}', label) for name, label in VAL)

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
MMACTION_LIST = 'kinetics400_train_list_videos.txt'
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


def make_mmaction(flat=()):
    """As mmaction2 leaves it: class folders with underscores, and lists.

    The labels of the lists are in no order.
    """
    make_minikinetics()
    order = ['yoga', 'zumba', 'bowling', 'air drumming', 'abseiling']
    lists = dict(train=[], val=[])
    for item in [*CLIPS, LOST, OTHER]:
        path, split = clip_path(*item), item[4]
        folder = '' if split in flat else item[0].replace(' ', '_')
        moved = path.parents[1] / folder / path.name
        if path.exists():
            moved.parent.mkdir(exist_ok=True)
            path.rename(moved)
        name = moved.relative_to(path.parents[1])
        lists[split].append(f'{name} {order.index(item[0])}')
    for split, rows in lists.items():
        path = f'kinetics400/kinetics400_{split}_list_videos.txt'
        write_lines(path, rows)


def kinetics_reads(blank=' ', classes=SPORTS):
    return [
        (
            dict(split=split, video_root='kinetics400'),
            [
                (str(clip_path(c[0].replace(' ', blank), *c[1:])),
                 classes.index(c[0]))
                for c in CLIPS
                if c[4] == split
            ],
        )
        for split in ('train', 'val')
    ]  # fmt: skip


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


UCF_READS = [
    (
        dict(
            ann_file=f'ucf101_{part}_split_{split}_videos.txt',
            data_prefix=dict(video='videos'),
        ),
        [
            (f'data/ucf101/videos/{name}', label)
            for name, label in actions(split, part == 'val')
        ],
    )
    for split in (1, 2, 3)
    for part in ('train', 'val')
]

CSV = '--ids ids --csv train.csv validate.csv --videos kinetics400 --out out'
NO_CSV = '--ids ids --videos kinetics400 --out out'
FROM_LISTS = (
    '--from-author-lists lists/train.list lists/val.list '
    '--images data/CUB_200_2011/images --out new'
)
MMPRETRAIN = 'mmpretrain', 'ImageNet', 'data/imagenet'
MMACTION = 'mmaction', 'MiniKinetics', 'out'
FLOWS = dict(
    coco=Flow('coco', make_coco, '', 'mmdet', 'CocoDataset', 'data/coco',
              COCO_READS),
    cub=Flow('cub', make_cub, '', 'mmpretrain', 'CUB', 'data/CUB_200_2011',
             cub_reads('data/CUB_200_2011')),
    lists=Flow('cub', make_author_lists, FROM_LISTS, 'mmpretrain', 'CUB',
               'new', cub_reads('new', order=-1)),
    kit=Flow('imagenet', make_imagenet, '--devkit devkit', *MMPRETRAIN,
             imagenet_reads()),
    labels=Flow('imagenet', make_imagenet, '--val-labels labels.txt',
                *MMPRETRAIN, imagenet_reads()),
    wnids=Flow('imagenet', make_imagenet, '--val-labels wnids.txt',
               *MMPRETRAIN, imagenet_reads()),
    folders=Flow('imagenet', make_imagenet_folders, '', *MMPRETRAIN,
                 imagenet_reads(IN_FOLDERS)),
    csv=Flow('minikinetics', make_minikinetics, CSV, *MMACTION,
             kinetics_reads()),
    mmaction=Flow('minikinetics', make_mmaction, NO_CSV, *MMACTION,
                  kinetics_reads('_')),
    no_csv=Flow('minikinetics', make_minikinetics, NO_CSV, *MMACTION,
                kinetics_reads(classes=SPORTS[1:])),
    ucf101=Flow('ucf101', make_ucf101, '--splits ucfTrainTestlist',
                'mmaction', 'VideoDataset', 'data/ucf101', UCF_READS),
)  # fmt: skip
