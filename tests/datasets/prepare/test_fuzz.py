"""The readers of annotation files against files that somebody broke.

Whatever the bytes, a reader ends in a :class:`SetupError`, or in lists whose
paths stay below their folder.
"""

import json
import os
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from fuzzing import in_files, mutations
from hypothesis import given
from hypothesis import strategies as st

from cgnl_mm.datasets.prepare import (
    annotations,
    minikinetics,
    ucf101,
)
from cgnl_mm.errors import SetupError

ID = 'abcdefghij'
UCF = {
    'classInd.txt': '1 Archery\n2 Biking\n',
    'trainlist01.txt': 'Archery/v_a_g01.avi 1\nBiking/v_b_g01.avi 2\n',
}
KINETICS = {
    'ids.txt': f'{ID}1\n{ID}-\n',
    'train.csv': 'label,youtube_id,time_start,time_end,split\n'
    f'"dancing, slow",{ID}1,3,13,train\neating,{ID}-,0,10,train\n',
}
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


def read_ucf(folder):
    classes = ucf101.read_classes(folder / 'classInd.txt')
    return [*ucf101.read_list(folder / 'trainlist01.txt', classes), *classes]


def read_kinetics(folder):
    ids = minikinetics.read_ids(folder / 'ids.txt')
    labels = minikinetics.read_csv([folder / 'train.csv'], set(ids))
    # names of classes become lines of classes.txt
    names = [name for name, *_ in labels.values()]
    assert all(name and name.isprintable() for name in names)
    return [*ids]


READERS = {
    read_ucf: UCF,
    read_kinetics: KINETICS,
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


@in_files
@given(content=mutations(json.dumps(COCO).encode()))
def test_fuzz_annotations(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'instances.json')
        path.write_bytes(content)
        try:
            said = annotations.check_coco(path, None)
        except SetupError as error:
            said = str(error)
    assert not said or said.isprintable(), said
