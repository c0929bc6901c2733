"""COCO 2017: its categories and its archives."""

import re
import zipfile
from pathlib import Path

import pytest
from miniatures import COCO_SPLITS, contents, make_coco

import cgnl_mm  # noqa: F401  repairs mmdet before it is imported
from cgnl_mm.errors import SetupError

DATA = Path('data/coco')


def test_other_categories_are_told(start, samples):
    """mmdet takes them silently, with other labels."""
    run = start('coco')
    path = DATA / 'annotations/instances_val2017.json'
    text = path.read_text()
    path.write_text(text.replace('"person"', '"dodo"'))
    assert 'classes without person; the labels are not' in run()
    text = text.replace('"person"', '"x"').replace('"bicycle"', '"person"')
    path.write_text(text.replace('"x"', '"bicycle"'))
    assert "val2017.json: mmdet's 80 classes in another order" in run()
    # by the order in the file
    assert [label for _, label in samples('coco')[1]] == [[0, 1], [1, 2]]


def make_archives():
    """The data as published: zip files, and nothing else."""
    make_coco()
    names = dict(annotations='annotations_trainval2017')
    for folder in ('annotations', *COCO_SPLITS):
        archive = f'{names.get(folder, folder)}.zip'
        with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
            file.writestr(f'{folder}/', b'')
            for path in sorted((DATA / folder).iterdir()):
                file.write(path, f'{folder}/{path.name}')
    DATA.rename('original')


UNZIP = '--unzip', *[f'{split}.zip' for split in COCO_SPLITS]
UNZIP = *UNZIP, 'annotations_trainval2017.zip'


def test_unzip_goes_on_where_it_stopped(start, samples):
    run = start('coco', make_archives)
    out = run(*UNZIP, '--dry-run')
    assert 'train2017.zip: 4 files to unpack' in out
    assert not DATA.exists()
    assert 'train2017: 4 of 4 images' in run(*UNZIP)
    assert [label for _, label in samples('coco')[1]] == [[0, 1], [1, 2]]
    half = DATA / 'train2017/000000000008.jpg'
    before, content = contents(), half.read_bytes()
    half.write_bytes(content[:100])
    assert 'train2017.zip: 1 files to unpack' in run(*UNZIP)
    assert half.read_bytes() == content
    # nothing else was written
    changed = contents().items() ^ before.items()
    assert {path for path, _ in changed} == {half}


@pytest.mark.parametrize('name', ['../evil.jpg', '/evil.jpg', 'a/../../evil'])
def test_archives_that_leave_the_folder_are_refused_whole(start, name):
    run = start('coco', make_archives)
    with zipfile.ZipFile('train2017.zip', 'a') as file:
        file.writestr(name, b'evil')
    with pytest.raises(SetupError, match=re.escape(f'{name!r} is not a path')):
        run(*UNZIP)
    assert not DATA.exists()


def test_broken_archives_end_it_and_leave_no_half_file(
    start, truncate, unwritable
):
    run, archive = start('coco', make_archives), Path('train2017.zip')
    content = archive.read_bytes()
    middle = len(content) // 2
    zeros = content[:middle] + bytes(100) + content[middle + 100 :]
    archive.write_bytes(zeros)
    with pytest.raises(SetupError, match='train2017.zip cannot be unpacked'):
        run(*UNZIP)
    written = [path for path in DATA.rglob('*') if path.is_file()]
    for path in written:
        original = Path('original') / path.relative_to(DATA)
        assert path.read_bytes() == original.read_bytes()
    assert 0 < len(written) < 4
    truncate('val2017.zip')
    with pytest.raises(SetupError, match='val2017.zip cannot be unpacked'):
        run('--unzip', 'val2017.zip')
    archive.write_bytes(content)
    unwritable(lambda: run('--unzip', archive))
    with pytest.raises(SetupError, match='no.zip does not exist'):
        run('--unzip', 'no.zip')
