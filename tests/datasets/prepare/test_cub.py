"""CUB-200-2011: the official tree, and lists as the author's code has."""

import re

import pytest
from mmpretrain.datasets import CUB

from cgnl_mm.errors import SetupError

CLASSES = ['001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Ani']
# the file order is by class; 2 images of each for training, 1 for the test
IMAGES = [
    (f'{name}/{name[4:]}_{number:04d}_{number}.jpg', label, number < 3)
    for label, name in enumerate(CLASSES)
    for number in (1, 2, 3)
]


@pytest.fixture
def source(tmp_path, write_jpeg):
    root = tmp_path / 'data/CUB_200_2011'
    for path, *_ in IMAGES:
        write_jpeg(root / 'images' / path)
    tables = dict(
        images=[path for path, *_ in IMAGES],
        image_class_labels=[label + 1 for _, label, _ in IMAGES],
        train_test_split=[int(train) for *_, train in IMAGES],
        classes=CLASSES,
    )
    for name, values in tables.items():
        (root / f'{name}.txt').write_text(
            ''.join(f'{i} {value}\n' for i, value in enumerate(values, 1))
        )
    return tmp_path


@pytest.fixture
def check(source, run_script):
    def run(*options):
        return run_script('cub', *options)

    return run


def samples(split, root='data/CUB_200_2011'):
    """What mmpretrain reads: (path, label)."""
    data_set = CUB(data_root=root, split=split)
    infos = [data_set.get_data_info(i) for i in range(len(data_set))]
    return [(i['img_path'], i['gt_label']) for i in infos]


def expected(train, images='data/CUB_200_2011/images'):
    return [
        (f'{images}/{path}', label)
        for path, label, is_train in IMAGES
        if is_train == train
    ]


def tree(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob('*')}


def test_a_good_tree_is_left_as_it_is(source, check):
    """And mmpretrain reads from it what the report says."""
    before = tree(source)
    out = check()
    assert tree(source) == before
    assert 'train: 6 of 6 images found, 2 to 2 a class\n' in out
    assert 'warning: test has 3 usable images, the complete one 5,794' in out
    assert 'warning: CUB-200-2011 has 200 classes' in out
    assert 'ln -s' not in out
    assert samples('train') == expected(True)
    assert samples('test') == expected(False)


def test_faults_of_images_are_counted_and_listed(source, check, truncate):
    images = source / 'data/CUB_200_2011/images'
    (images / IMAGES[0][0]).unlink()
    (images / IMAGES[1][0]).write_bytes(b'')
    truncate(images / IMAGES[3][0])
    (images / IMAGES[5][0]).write_bytes(b'<html>not found</html>')
    (images / IMAGES[8][0]).unlink()
    (images / IMAGES[8][0]).mkdir()
    out = check('--out', 'report', '--per-class')
    lines = (source / 'report/unusable.txt').read_text().splitlines()
    assert [line.split('\t')[:3] for line in lines] == [
        [split, IMAGES[i][0], CLASSES[IMAGES[i][1]]]
        for split, i in (
            ('train', 0),
            ('train', 1),
            ('train', 3),
            ('test', 5),
            ('test', 8),
        )
    ]
    reasons = [line.split('\t')[3] for line in lines]
    assert reasons[:2] + reasons[4:] == [
        'missing',
        'zero bytes',
        'no regular file',
    ]
    assert 'truncated' in reasons[2]
    assert reasons[3].startswith('unreadable: UnidentifiedImageError')
    assert (
        'train: 3 of 6 images found, 0 to 2 a class; 1 missing; '
        '1 unreadable; 1 zero bytes'
    ) in out
    assert f'       0  {CLASSES[0]}\n' in out
    assert 'warning: mmpretrain reads every image of images.txt' in out
    # a look at the sizes alone does not see broken content
    assert 'train: 4 of 6 images' in check('--no-decode')


def test_author_lists_out_and_in_are_the_same_data(source, check):
    check('--write-author-lists', 'lists')
    lines = (source / 'lists/val.list').read_text().splitlines()
    assert lines == [f'{p} {k}' for p, k, train in IMAGES if not train]
    assert len((source / 'lists/train.list').read_text().splitlines()) == 6
    # as other trees have them: paths from above images/, not in order
    train = (source / 'lists/train.list').read_text().splitlines()[::-1]
    (source / 'lists/train.list').write_text(
        ''.join(f'./images/{line}\n' for line in train)
    )
    build = (
        '--from-author-lists', 'lists/train.list', 'lists/val.list',
        '--images', 'data/CUB_200_2011/images', '--out', 'new',
    )  # fmt: skip
    assert 'dry run' in check(*build, '--dry-run')
    assert not (source / 'new').exists()
    out = check(*build)
    assert f'ln -sfT {source / "new"} data/CUB_200_2011' in out
    assert (source / 'new/images').is_symlink()
    names = (source / 'new/classes.txt').read_text()
    assert names == (source / 'data/CUB_200_2011/classes.txt').read_text()
    assert samples('train', 'new') == expected(True, 'new/images')[::-1]
    assert samples('test', 'new') == expected(False, 'new/images')
    before = tree(source)
    assert 'wrote' not in check(*build)
    assert tree(source) == before
    # the new tree is an official one, also to this script
    assert 'train: 6 of 6 images' in check('--root', 'new')


def test_the_official_tree_is_not_replaced_by_ours(source, check):
    check('--write-author-lists', 'lists')
    tree = source / 'data/CUB_200_2011'
    before = {f: f.read_bytes() for f in tree.glob('*.txt')}
    with pytest.raises(SetupError, match='holds an official tree'):
        check(
            '--from-author-lists', 'lists/train.list', 'lists/val.list',
            '--images', tree / 'images', '--out', tree,
        )  # fmt: skip
    assert {f: f.read_bytes() for f in tree.glob('*.txt')} == before


def change(name, old, new):
    def edit(source):
        path = source / 'data/CUB_200_2011' / name
        text = path.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new, 1))

    return edit


@pytest.mark.parametrize('edit, message', [
    (change('images.txt', b'2 001.', b'1 001.'),
     'images.txt, line 2: id 1 again'),
    (change('images.txt', b'_0002_2', b'_0001_1'), '_0001_1.jpg again'),
    (change('images.txt', b'9 003.Ani/', b'9 ../003.Ani/'),
     "images.txt, line 9: '../003.Ani/Ani_0003_3.jpg' is not a path"),
    (change('images.txt', b'Ani_0003', b'Ani 0003'),
     "images.txt, line 9: '9 003.Ani/Ani 0003_3.jpg' is not \"ID VALU"),
    (change('images.txt', b'Ani_0003', b'Ani\xe9'),
     'images.txt, line 9: not UTF-8'),
    (change('images.txt', b'9 003', b'\n9 003'),
     'images.txt, line 9: remove the blank line'),
    (change('images.txt', b'1 001', b'\xef\xbb\xbf1 001'),
     'images.txt, line 1: remove the byte order mark'),
    (change('image_class_labels.txt', b'3 1\n', b'3 2\n'),
     "images.txt, line 3: the folder is '001.Black_footed_Albatross'; "),
    (change('image_class_labels.txt', b'3 1\n', b'3 4\n'),
     "image_class_labels.txt, line 3 has class '4'"),
    (change('image_class_labels.txt', b'3 1\n', b''), 'differ in their ids'),
    (change('train_test_split.txt', b'9 0', b'9 2'),
     "train_test_split.txt, line 9 '2'"),
    (change('classes.txt', b'2 002', b'7 002'),
     'classes.txt: no class 2: ids must go from 1 to 3'),
    (lambda s: (s / 'data/CUB_200_2011/classes.txt').unlink(),
     'classes.txt does not exist: --root takes the unpacked'),
    (lambda s: (s / 'data/CUB_200_2011/images').rename(s / 'x'),
     'no folder data/CUB_200_2011/images'),
])  # fmt: skip
def test_faults_of_the_tree_end_it_with_the_line(source, check, edit, message):
    edit(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        check('--write-author-lists', 'lists')
    assert not (source / 'lists').exists()


@pytest.mark.parametrize('line, message', [
    ('001.x/a.jpg', "val.list, line 4: no label at the end: '001.x/a"),
    ('001.x/a.jpg -1', 'val.list, line 4: no label at the end'),
    ('../001.x/a.jpg 0', "line 4: '../001.x/a.jpg' is not a path below"),
    ('images//etc/a.jpg 0', "line 4: '/etc/a.jpg' is not a path below"),
    ('a.jpg 0', "line 4: 'a.jpg' must be CLASS/NAME without blanks"),
    ('001.x/a.jpg 0', "line 4: '001.x' for 0, further up '001.Black"),
    ('003.Ani/new.jpg 3', 'without a gap, one for each folder'),
    ('005.x/a.jpg 4', 'labels must go from 0 without a gap'),
    (f'{IMAGES[0][0]} 0', f'line 4: {IMAGES[0][0]} again'),
])  # fmt: skip
def test_faults_of_lists_end_it_with_the_line(source, check, line, message):
    check('--write-author-lists', 'lists')
    with (source / 'lists/val.list').open('a') as file:
        file.write(f'{line}\n')
    with pytest.raises(SetupError, match=re.escape(message)):
        check(
            '--from-author-lists', 'lists/train.list', 'lists/val.list',
            '--images', 'data/CUB_200_2011/images', '--out', 'new',
        )  # fmt: skip
    assert not (source / 'new').exists()
