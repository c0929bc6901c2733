"""ImageNet-1k, from the unpacked archives to mmpretrain's data set."""

import re
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import ImageNet
from scipy.io import savemat

from cgnl_mm.errors import SetupError

# sorted; the development kit numbers them otherwise
WNIDS = ['n01440764', 'n01443537', 'n02119789']
DEVKIT = ['n02119789', 'n01440764', 'n01443537']
VAL = [2, 0, 1, 1, 0]  # label of each validation image
TRAIN = [f'{name}/{name}_{i}.JPEG' for name in WNIDS for i in (10, 18)]


def val_name(number):
    return f'ILSVRC2012_val_{number:08d}.JPEG'


@pytest.fixture
def source(tmp_path, write_jpeg):
    """The official archives, unpacked: val/ is flat."""
    root = tmp_path / 'data/imagenet'
    for name in TRAIN:
        write_jpeg(root / 'train' / name)
    for number in range(1, len(VAL) + 1):
        write_jpeg(root / 'val' / val_name(number))
    (tmp_path / 'devkit/data').mkdir(parents=True)
    rows = [*((w, 0) for w in DEVKIT), ('n00001740', 3)]  # and one above them
    fields = [('ILSVRC2012_ID', object), ('WNID', object)]
    synsets = np.zeros(len(rows), [*fields, ('num_children', object)])
    for row, (number, (wnid, children)) in zip(synsets, enumerate(rows, 1)):
        row['ILSVRC2012_ID'], row['WNID'] = float(number), wnid
        row['num_children'] = float(children)
    savemat(tmp_path / 'devkit/data/meta.mat', dict(synsets=synsets))
    truth = [DEVKIT.index(WNIDS[label]) + 1 for label in VAL]
    (
        tmp_path / 'devkit/data/ILSVRC2012_validation_ground_truth.txt'
    ).write_text(''.join(f'{number}\n' for number in truth))
    return tmp_path


@pytest.fixture
def prepare(source, run_script):
    def run(*options):
        return run_script('imagenet', *options)

    return run


def samples(split, classes=WNIDS, **options):
    """What mmpretrain reads where the configs look: (path, label)."""
    data_set = ImageNet(
        data_root='data/imagenet',
        split=split,
        metainfo=dict(classes=classes),
        **options,
    )
    infos = [data_set.get_data_info(i) for i in range(len(data_set))]
    assert all(Path(i['img_path']).is_file() for i in infos)
    prefix = f'data/imagenet/{split}/'
    return [(i['img_path'].removeprefix(prefix), i['gt_label']) for i in infos]


EXPECTED_TRAIN = [(name, WNIDS.index(name[:9])) for name in TRAIN]
EXPECTED_VAL = [(val_name(i), label) for i, label in enumerate(VAL, 1)]


def test_flat_validation_images_stay_where_they_are(source, prepare):
    data = source / 'data/imagenet'
    before = {p for p in data.rglob('*') if p.suffix == '.JPEG'}
    out = prepare('--devkit', 'devkit')
    assert samples('train') == EXPECTED_TRAIN
    assert samples('val') == EXPECTED_VAL
    assert {p for p in data.rglob('*') if p.suffix == '.JPEG'} == before
    assert (data / 'meta/classes.txt').read_text().split() == WNIDS
    assert 'train: 6 of 6 images found, 2 to 2 a class\n' in out
    assert 'val has 5 usable images, the complete one 50,000' in out
    assert 'warning: ImageNet-1k has 1000 classes; with 3' in out
    assert 'ln -s' not in out
    # again, by the list that is there now, or by the folder in the kit
    assert 'wrote' not in prepare()
    assert 'wrote' not in prepare('--devkit', 'devkit/data')


def test_class_folders_need_no_list_and_give_the_same_labels(source, prepare):
    """Those that mmpretrain gives without annotation files."""
    val = source / 'data/imagenet/val'
    for name, label in EXPECTED_VAL:
        (val / WNIDS[label]).mkdir(exist_ok=True)
        (val / name).rename(val / WNIDS[label] / name)
    plain = samples('train'), samples('val')
    assert [label for _, label in plain[1]] == sorted(VAL)
    prepare()
    assert (source / 'data/imagenet/meta/val.txt').is_file()
    assert (samples('train'), samples('val')) == plain


@pytest.mark.parametrize('form', ['{name} {wnid}', 'x/{name} {label}'])
def test_labels_of_a_text_file(source, prepare, form):
    """The second form is that of the lists that came with Caffe."""
    (source / 'val.txt').write_text(
        ''.join(
            form.format(name=name, wnid=WNIDS[label], label=label) + '\n'
            for name, label in EXPECTED_VAL
        )
    )
    prepare('--val-labels', 'val.txt')
    assert samples('val') == EXPECTED_VAL


def test_labels_do_not_shift_with_a_missing_class(source, prepare):
    """Half of the classes were copied: the kit knows all."""
    folder = source / 'data/imagenet/train' / WNIDS[0]
    folder.rename(source / 'elsewhere')
    prepare('--devkit', 'devkit')
    assert samples('train') == EXPECTED_TRAIN[2:]
    with pytest.raises(SetupError, match='is for the classes of .*--devkit'):
        prepare()
    # what is not of the kit is no class
    (source / 'elsewhere').rename(folder.with_name('n99999999'))
    assert '2 in the folder of another class' in prepare('--devkit', 'devkit')
    assert samples('train') == EXPECTED_TRAIN[2:]


def test_faults_are_counted_and_listed(source, prepare, truncate, write_jpeg):
    data = source / 'data/imagenet'
    (data / 'train' / TRAIN[0]).write_bytes(b'')
    truncate(data / 'train' / TRAIN[1])
    write_jpeg(data / 'train/stray.JPEG')
    write_jpeg(data / 'train' / WNIDS[1] / 'a b.jpeg')
    write_jpeg(data / 'train' / WNIDS[1] / 'caf\u00e9\n1.JPEG')
    (data / 'train' / WNIDS[1] / 'notes.txt').write_text('no image')
    (data / 'val' / val_name(1)).unlink()
    (data / 'val' / WNIDS[2]).mkdir()
    (data / 'val' / val_name(2)).rename(data / 'val' / WNIDS[2] / val_name(2))
    write_jpeg(data / 'val' / val_name(9))
    out = prepare('--devkit', 'devkit', '--decode')
    lines = (data / 'meta/unusable.txt').read_text().splitlines()
    assert 'unreadable: OSError: image file is truncated' in lines.pop(2)
    assert lines == [
        'train\tstray.JPEG\tNone\tin no class folder',
        f'train\t{TRAIN[0]}\t{WNIDS[0]}\tzero bytes',
        f'train\t{WNIDS[1]}/caf\\xe9\\n1.JPEG\t{WNIDS[1]}\tpath that no list '
        'can hold',
        f'val\t{val_name(9)}\tNone\tno label',
        f'val\t{WNIDS[2]}/{val_name(2)}\t{WNIDS[2]}\tcontradictory label: '
        f'{WNIDS[0]} in the list',
        f'val\t{val_name(1)}\t{WNIDS[2]}\tmissing',
    ]
    assert 'train: 5 of 9 images found, 0 to 3 a class; 1 in no class' in out
    assert 'val: 3 of 6 images found, 0 to 2 a class; 1 contradictory l' in out
    assert (f'{WNIDS[1]}/a b.jpeg', 1) in samples('train')
    assert samples('val') == EXPECTED_VAL[2:]


def kit(name, content):
    def edit(source):
        (source / 'devkit/data' / name).write_bytes(content)

    return edit


TRUTH = 'ILSVRC2012_validation_ground_truth.txt'


@pytest.mark.parametrize('edit, message', [
    (kit(TRUTH, b'1\n2\nx\n'), f"{TRUTH}, line 3: 'x' is not a class of"),
    (kit(TRUTH, b'1\n4\n'), f"{TRUTH}, line 2: '4' is not a class of"),
    # a line left out would shift all that follow
    (kit(TRUTH, b'1\n\n2\n'), f'{TRUTH}, line 2: remove the blank line'),
    (kit('meta.mat', b'MATLAB 5.0'), 'meta.mat cannot be read as that'),
    (lambda s: (s / 'devkit/data/meta.mat').unlink(),
     'meta.mat does not exist: --devkit takes the unpacked'),
    (lambda s: (s / 'data/imagenet/val').rename(s / 'val'),
     '--root: no folder data/imagenet/val'),
    (lambda s: [p.unlink() for p in (s / 'data').rglob('val/*')],
     'no usable image in train/ or val/'),
])  # fmt: skip
def test_faults_of_the_kit_end_it_and_write_nothing(
    source, prepare, edit, message
):
    edit(source)
    with pytest.raises(SetupError, match=re.escape(message)):
        prepare('--devkit', 'devkit')
    assert not (source / 'data/imagenet/meta').exists()


@pytest.mark.parametrize('line, message', [
    ('a.JPEG n00000001', "line 2: 'n00000001' is neither one of the 3"),
    ('a.JPEG 3', "line 2: '3' is neither"),
    ('a.JPEG', "line 2: no label at the end: 'a.JPEG'"),
    ('../a.JPEG 1', "line 2: '../a.JPEG' is not a path below"),
    (f'{val_name(1)} 1', f"line 2: '{WNIDS[1]}' for '{val_name(1)}', "),
])  # fmt: skip
def test_faults_of_labels_end_it_with_the_line(source, prepare, line, message):
    (source / 'val.txt').write_text(f'{val_name(1)} 2\n{line}\n')
    with pytest.raises(SetupError, match='val.txt, ' * message.startswith('l')
                       + re.escape(message)):  # fmt: skip
        prepare('--val-labels', 'val.txt')
    assert not (source / 'data/imagenet/meta').exists()


def test_flat_images_without_labels_say_what_to_get(source, prepare):
    with pytest.raises(SetupError, match='no class folders.*--devkit.*--val-'):
        prepare()


def test_labels_of_repaired_images_are_kept_by_a_second_run(
    source, prepare, write_jpeg
):
    """Without the kit they are known from the first run's lists alone."""
    image = source / 'data/imagenet/val' / val_name(2)
    image.write_bytes(b'')
    prepare('--devkit', 'devkit')
    assert len(samples('val')) == len(VAL) - 1
    write_jpeg(image)
    prepare()
    assert samples('val') == EXPECTED_VAL


def test_read_only_data_get_lists_elsewhere(source, prepare):
    out = prepare('--devkit', 'devkit', '--out', 'lists')
    assert not (source / 'data/imagenet/meta').exists()
    assert f'ln -sfT {source / "lists"} data/imagenet/meta' in out
    (source / 'data/imagenet/meta').symlink_to(source / 'lists')
    assert samples('val') == EXPECTED_VAL
    assert 'ln -s' not in prepare('--devkit', 'devkit', '--out', 'lists')


def test_lists_of_somebody_else_are_kept(source, prepare):
    """Unless they say the same in another order."""
    prepare('--devkit', 'devkit')
    meta = source / 'data/imagenet/meta'
    (meta / 'classes.txt').unlink()
    lines = (meta / 'train.txt').read_text().splitlines(keepends=True)
    (meta / 'train.txt').write_text(''.join(lines[::-1]))
    prepare('--devkit', 'devkit')
    assert samples('train') == EXPECTED_TRAIN
    (meta / 'classes.txt').unlink()
    (meta / 'train.txt').write_text(lines[0])
    with pytest.raises(SetupError, match='train.txt was not written by this'):
        prepare('--devkit', 'devkit')
    assert (meta / 'train.txt').read_text() == lines[0]
