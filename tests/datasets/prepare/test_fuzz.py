"""The readers of annotation files against files that somebody broke.

Whatever the bytes, a reader ends in a :class:`SetupError`, or in lists whose
paths stay below their folder.
"""

import io
import json
import os
import tempfile
import zipfile
from argparse import Namespace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from fuzzing import HOSTILE, in_files, mutations
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from cgnl_mm.datasets.prepare import (
    coco,
    cub,
    imagenet,
    minikinetics,
    ucf101,
)
from cgnl_mm.errors import SetupError

ID = 'abcdefghij'
CUB = {
    'classes.txt': '1 001.Auk\n2 002.Bunting\n',
    'images.txt': '1 001.Auk/a.jpg\n2 002.Bunting/b.jpg\n',
    'image_class_labels.txt': '1 1\n2 2\n',
    'train_test_split.txt': '1 1\n2 0\n',
}
AUTHOR = {
    'train.list': '001.Auk/a.jpg 0\n',
    'val.list': 'images/002.Bunting/b.jpg 1\n',
}
UCF = {
    'classInd.txt': '1 Archery\n2 Biking\n',
    'trainlist01.txt': 'Archery/v_a_g01.avi 1\nBiking/v_b_g01.avi 2\n',
}
KINETICS = {
    'ids.txt': f'{ID}1\n{ID}-\n',
    'train.csv': 'label,youtube_id,time_start,time_end,split\n'
    f'"dancing, slow",{ID}1,3,13,train\neating,{ID}-,0,10,train\n',
    'kinetics400_train_list_videos.txt': f'eating_soup/{ID}1_000003_000013'
    f'.mp4 7\nvideos_train/dancing/{ID}-.mp4 0\n',
}
VAL = 'ILSVRC2012_val_00000001.JPEG n01440764\nval/b.JPEG 1\n'
COCO = dict(
    images=[
        dict(id=1, file_name='a.jpg', height=4, width=5),
        dict(id=2, file_name='b/c.jpg', height=4, width=5),
    ],
    annotations=[
        dict(id=1, image_id=2, category_id=1, bbox=[0, 0, 1, 1.5], area=1.5)
    ],
    categories=[dict(id=1, name='person')],
)


def read_cub(folder):
    return [path for path, *_ in cub.read_tree(folder)[1]]


def read_author(folder):
    lists = folder / 'train.list', folder / 'val.list'
    return [path for path, *_ in cub.read_author_lists(*lists)[1]]


def read_ucf(folder):
    classes = ucf101.read_classes(folder / 'classInd.txt')
    return ucf101.read_list(folder / 'trainlist01.txt', classes) + classes


def read_kinetics(folder):
    ids = minikinetics.read_ids(folder / 'ids.txt')
    labels = minikinetics.read_csv([folder / 'train.csv'], set(ids))
    lists = [folder / 'kinetics400_train_list_videos.txt']
    named = minikinetics.read_mmaction_lists(lists, set(ids))
    # names of classes become lines of classes.txt
    names = [name for name, *_ in (*labels.values(), *named.values())]
    assert all(name and name.isprintable() for name in names)
    return ids


def read_imagenet(folder):
    classes = ['n01440764', 'n01443537']
    path = folder / 'labels.txt'
    labels = imagenet.read_val_labels(path, classes, '--val-labels')
    assert set(labels.values()) <= set(classes)
    return labels


def read_coco(folder):
    content = coco.read_annotations(folder / 'instances.json')
    known = {item['id'] for item in content['images']}
    assert {item['image_id'] for item in content['annotations']} <= known
    return [item['file_name'] for item in content['images']]


READERS = {
    read_cub: CUB,
    read_author: AUTHOR,
    read_ucf: UCF,
    read_kinetics: KINETICS,
    read_imagenet: {'labels.txt': VAL},
    read_coco: {'instances.json': json.dumps(COCO)},
}
FILES = [(read, file) for read in READERS for file in READERS[read]]


def write(folder, files):
    for name, content in files.items():
        Path(folder, name).write_text(content, encoding='utf-8')


@pytest.mark.parametrize('read', READERS)
def test_whole_files_are_read(read, tmp_path):
    write(tmp_path, READERS[read])
    assert len(read(tmp_path)) >= 2


@pytest.mark.parametrize('read, file', FILES)
@in_files
@given(data=st.data())
def test_fuzz_readers(read, file, data):
    files = READERS[read]
    broken = data.draw(mutations(files[file].encode()))
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files)
        Path(folder, file).write_bytes(broken)
        try:
            paths = read(Path(folder))
        except SetupError as error:
            assert str(error).isprintable(), error
            return
    for path in paths:
        assert path.isprintable(), path
        joined = os.path.normpath(os.path.join('/root/data', path))
        assert joined.startswith('/root/data/'), path
        assert '..' not in PurePosixPath(path).parts


def meta_mat():
    """Write the development kit's classes as MATLAB would."""
    synsets = np.zeros(
        2, [('ILSVRC2012_ID', int), ('WNID', 'O'), ('num_children', int)]
    )
    synsets['ILSVRC2012_ID'] = 1, 2
    synsets['WNID'] = 'n01440764', 'n01443537'
    file = io.BytesIO()
    savemat(file, dict(synsets=synsets))
    return file.getvalue()


META = meta_mat()
# SciPy 1.17 crashes where a structure (2) is said to be a sparse matrix (5)
assert META[144] == 2
CRASHING = META[:144] + b'\5' + META[145:]


def read_devkit(content):
    """Read a development kit, the meta.mat of which has this content."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, 'meta.mat').write_bytes(content)
        Path(folder, imagenet.TRUTH).write_text('1')
        return imagenet.read_devkit(Path(folder))


@in_files
@given(content=mutations(META))
def test_fuzz_devkit(content):
    """SciPy raises what it likes on a broken meta.mat, or crashes."""
    try:
        wnids, labels = read_devkit(content)
    except SetupError as error:
        assert str(error).count('meta.mat') == 1, error
        return
    assert set(labels.values()) <= set(wnids)


def test_crash_of_scipy_is_an_error_of_one_line():
    """Another version may read the file on, and refuse it."""
    told = r'^\S+/meta.mat (is damaged: unpack|cannot be read)[^\n]*$'
    with pytest.raises(SetupError, match=told):
        read_devkit(CRASHING)


def zip_bytes(names):
    """An archive with these files; their content is their name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
    return file.getvalue()


NAMES = [text.decode('latin-1') for text in HOSTILE if len(text) < 999]
NAMES = [name for name in NAMES if name[0] != '\0']
NAMES += ['val2017/a.jpg', 'val2017', 'b/../../c']


@in_files
@given(
    names=st.lists(st.sampled_from(NAMES), max_size=4, unique=True),
    data=st.data(),
)
def test_fuzz_unzip(names, data):
    """Whatever an archive says, nothing is written outside, nothing half."""
    content = zip_bytes(names)
    if data.draw(st.booleans()):
        content = data.draw(mutations(content))
    with tempfile.TemporaryDirectory() as folder:
        root, archive = Path(folder, 'deep/root'), Path(folder, 'a.zip')
        archive.write_bytes(content)
        unzip(archive, root)
        for path in Path(folder).rglob('*'):
            assert path in (archive, root.parent, root) or root in path.parents
            if root in path.parents and path.is_file():
                assert len(path.read_text('utf-8')) <= 999


def unzip(archive, root):
    """Unpack an archive; say whether it was refused."""
    args = Namespace(root=root, dry_run=False, quiet=True)
    try:
        coco.unpack(archive, args)
    except SetupError as error:
        return 'cannot be unpacked' in str(error)


def test_name_in_an_archive_that_cannot_be_decoded(tmp_path):
    archive = tmp_path / 'a.zip'
    damaged = zip_bytes(['\xff']).replace('\xff'.encode(), b'\xff\xff')
    archive.write_bytes(damaged)
    assert unzip(archive, tmp_path / 'root')


def test_a_link_in_an_archive_is_no_link(tmp_path):
    """The second file would land where the first one leads."""
    archive, root = tmp_path / 'a.zip', tmp_path / 'root'
    with zipfile.ZipFile(archive, 'w') as file:
        link = zipfile.ZipInfo('val2017')
        link.external_attr = 0o120777 << 16
        file.writestr(link, str(tmp_path))
        file.writestr('val2017/stolen.txt', 'x')
    assert unzip(archive, root)
    assert not (tmp_path / 'stolen.txt').exists()
    assert not (root / 'val2017').is_symlink()
