"""COCO 2017, from the archives to mmdet's data set."""

import json
import re
import zipfile
from pathlib import Path

import pytest

import cgnl_mm  # noqa: F401  repairs mmdet before it is imported
from cgnl_mm.errors import SetupError

SPLITS = dict(train2017=4, val2017=2)


@pytest.fixture(scope='session')
def classes():
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


def json_path(split):
    return Path(f'data/coco/annotations/instances_{split}.json')


@pytest.fixture
def source(tmp_path, write_jpeg, classes):
    """All categories, with gaps in their ids as published."""
    categories = [
        dict(id=i + 1 + i // 10, name=name) for i, name in enumerate(classes)
    ]
    for split, number in SPLITS.items():
        images, annotations = [], []
        for index in range(number):
            name = f'{index + 7:012d}.jpg'
            write_jpeg(tmp_path / 'data/coco' / split / name)
            images.append(
                dict(id=index + 7, file_name=name, height=48, width=48)
            )
            for category in categories[index : index + 2]:
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index + 7,
                        category_id=category['id'],
                        bbox=[4.5, 5, 20, 30.25],
                        area=605.0,
                        iscrowd=0,
                        segmentation=[[4, 5, 24, 5, 24, 35, 4, 35]],
                    )
                )
        path = tmp_path / json_path(split)
        path.parent.mkdir(exist_ok=True)
        content = dict(
            images=images, annotations=annotations, categories=categories
        )
        path.write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def check(source, run_script):
    def run(*options):
        return run_script('coco', *options)

    return run


def samples(split):
    """What mmdet reads: (path, labels)."""
    from mmdet.datasets import CocoDataset

    data_set = CocoDataset(
        data_root='data/coco',
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'{split}/'),
        pipeline=[],
    )
    infos = [data_set.get_data_info(i) for i in range(len(data_set))]
    return [
        (i['img_path'], [box['bbox_label'] for box in i['instances']])
        for i in infos
    ]


def tree(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob('*')}


def test_good_data_are_left_as_they_are(source, check):
    """And mmdet reads from them what the report says."""
    before = tree(source)
    out = check('--decode', '--per-class')
    assert tree(source) == before
    assert 'train2017: 4 of 4 images found, 0 to 2 instances a class\n' in out
    assert '       2  bicycle\n' in out
    assert 'warning: val2017 has 2 usable images, the complete one 5,0' in out
    assert out.count('warning') == 2
    for split, number in SPLITS.items():
        assert samples(split) == [
            (f'data/coco/{split}/{i + 7:012d}.jpg', [i, i + 1])
            for i in range(number)
        ]


def test_faults_of_images_are_counted_and_listed(source, check, truncate):
    folder = source / 'data/coco/train2017'
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[0]).unlink()
    (folder / names[1]).write_bytes(b'')
    truncate(folder / names[2])
    out = check('--decode', '--workers', '2', '--out', 'report')
    lines = (source / 'report/unusable.txt').read_text().splitlines()
    assert lines[:2] == [
        f'train2017\t{names[0]}\tNone\tmissing',
        f'train2017\t{names[1]}\tNone\tzero bytes',
    ]
    assert 'truncated' in lines[2]
    assert '; 1 missing; 1 unreadable; 1 zero bytes\n' in out
    assert 'warning: mmdet reads every image of its annotations' in out
    assert '; 1 missing; 1 zero bytes\n' in check()


def edit(change, split='val2017'):
    def apply(source):
        path = source / json_path(split)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def cut(source):
    path = source / json_path('val2017')
    path.write_text(path.read_text()[:-10])


def entry(kind, number, **values):
    return edit(lambda content: content[kind][number].update(values))


@pytest.mark.parametrize('fault, message', [
    (cut, 'instances_val2017.json is not a whole json file'),
    (lambda s: (s / json_path('val2017')).write_text('[' * 100_000),
     'instances_val2017.json is not a whole json file'),
    (lambda s: (s / json_path('val2017')).write_bytes(b'{"\xe9": 1}'),
     'instances_val2017.json, line 1: not UTF-8'),
    (lambda s: (s / json_path('val2017')).unlink(),
     'does not exist: it is in annotations_trainval2017.zip'),
    (edit(lambda content: content.pop('images')),
     'instances_val2017.json: images is missing or empty'),
    (edit(lambda content: content['images'].append('x')),
     'images[2]: id is None'),
    (entry('images', 1, id=7), 'images[1]: id 7 again'),
    (entry('images', 1, id=True), 'images[1]: id is True'),
    (entry('images', 1, file_name='000000000007.jpg'),
     "images[1]: file_name '000000000007.jpg' again"),
    (entry('images', 1, file_name='../../passwd'),
     "images[1]: '../../passwd' is not a path below"),
    (lambda s: (s / json_path('val2017')).write_text('{"images": 1e999}'),
     '1e999 is not a finite number'),
    (entry('annotations', 2, id=1), 'annotations[2]: id 1 again'),
    (entry('annotations', 2, image_id=99),
     'annotations[2]: image_id 99 is unknown'),
    (entry('annotations', 2, category_id=11),
     'annotations[2]: category_id 11 is unknown'),
    (entry('annotations', 2, bbox=[1, 2, 3]),
     'annotations[2]: bbox [1, 2, 3] is not x, y, width, height'),
    (entry('annotations', 2, area='605'), "annotations[2]: area is '605'"),
    (entry('annotations', 2, area=float('nan')), 'NaN is not a finite number'),
    (lambda s: (s / 'data/coco/val2017').rename(s / 'elsewhere'),
     'no folder data/coco/val2017: it is in val2017.zip'),
])  # fmt: skip
def test_faults_of_annotations_end_it_with_the_entry(
    source, check, fault, message
):
    fault(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        check('--out', 'report')
    assert not (source / 'report').exists()


def test_other_categories_are_told(source, check):
    """mmdet takes them silently, with other labels."""
    edit(lambda content: content['categories'].reverse())(source)
    out = check()
    assert "val2017.json: mmdet's 80 classes in another order" in out
    assert samples('val2017')[0][1] == [79, 78]
    entry('categories', 40, name='dodo')(source)
    assert 'classes without bottle; the labels are not' in check()


@pytest.fixture
def archives(source):
    """The data as published: zip files, and nothing else."""
    data = source / 'data/coco'
    names = dict(annotations='annotations_trainval2017')
    paths = []
    for folder in ('annotations', *SPLITS):
        paths.append(source / f'{names.get(folder, folder)}.zip')
        with zipfile.ZipFile(paths[-1], 'w', zipfile.ZIP_DEFLATED) as file:
            file.writestr(f'{folder}/', b'')
            for path in sorted((data / folder).iterdir()):
                file.write(path, f'{folder}/{path.name}')
    data.rename(source / 'original')
    return paths


def test_unzip_goes_on_where_it_stopped(source, check, archives):
    out = check('--unzip', *archives, '--dry-run')
    assert 'train2017.zip: 4 files to unpack' in out
    assert not (source / 'data/coco').exists()
    out = check('--unzip', *archives)
    assert 'train2017: 4 of 4 images' in out
    assert samples('val2017')[0][1] == [0, 1]
    assert not list((source / 'data/coco').glob('.*'))
    half = source / 'data/coco/train2017/000000000008.jpg'
    original = half.read_bytes()
    half.write_bytes(original[:100])
    stamps = tree(source / 'data/coco')
    assert 'train2017.zip: 1 files to unpack' in check('--unzip', *archives)
    assert half.read_bytes() == original
    changed = tree(source / 'data/coco').items() ^ stamps.items()
    assert {path.name for path, _ in changed} <= {
        half.name,
        'train2017',
        'coco',
    }


@pytest.mark.parametrize('name', ['../evil.jpg', '/evil.jpg', 'a/../../evil'])
def test_archives_that_leave_the_folder_are_refused_whole(
    source, check, archives, name
):
    with zipfile.ZipFile(archives[1], 'a') as file:
        file.writestr(name, b'evil')
    with pytest.raises(SetupError, match=re.escape(f'{name!r} is not a path')):
        check('--unzip', *archives[1:])
    assert not (source / 'data/coco').exists()
    assert not list(source.rglob('evil*'))


def test_broken_archives_end_it_and_leave_no_half_file(
    source, check, archives, truncate, unwritable
):
    content = archives[1].read_bytes()
    middle = len(content) // 2
    archives[1].write_bytes(
        content[:middle] + bytes(100) + content[middle + 100 :]
    )
    with pytest.raises(SetupError, match='train2017.zip cannot be unpacked'):
        check('--unzip', *archives)
    data = source / 'data/coco'
    written = [p for p in data.rglob('*') if p.is_file()]
    for path in written:
        original = source / 'original' / path.relative_to(data)
        assert path.read_bytes() == original.read_bytes()
    assert len(written) in range(2, 6)
    truncate(archives[2])
    with pytest.raises(SetupError, match='val2017.zip cannot be unpacked'):
        check('--unzip', archives[2])
    archives[1].write_bytes(content)
    unwritable(lambda: check('--unzip', archives[1]), data)
    with pytest.raises(SetupError, match='no.zip does not exist'):
        check('--unzip', 'no.zip')
