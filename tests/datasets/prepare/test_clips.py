"""Lists of clips are written whole, or not at all."""

import os
import resource
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgnl_mm.datasets.prepare.clips import Clip, write_annotations, write_files
from cgnl_mm.errors import SetupError


@contextmanager
def without_privileges():
    """Root may write anywhere: be nobody for a while."""
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)
    except OSError:
        pytest.skip('root cannot become nobody here')
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder_is_told():
    # nobody may not enter the folder of root's tests
    with tempfile.TemporaryDirectory(dir='/tmp') as name:
        folder = Path(name)
        (folder / 'a.txt').write_text('old')
        folder.chmod(0o555)
        denied = 'cannot write .*Permission denied'
        with without_privileges(), pytest.raises(SetupError, match=denied):
            write_files(folder, {'a.txt': 'new'})
        folder.chmod(0o755)
        assert [p.read_text() for p in folder.iterdir()] == ['old']


def test_a_full_disk_leaves_the_old_lists(tmp_path):
    """The operating system refuses to write more than one byte."""
    (tmp_path / 'a.txt').write_text('old')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(SetupError, match='File too large'):
            write_files(tmp_path, {'a.txt': '', 'b.txt': 'new'})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    """Files are replaced, not written over."""
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with path.open() as reader:
        write_files(tmp_path, {'a.txt': 'new'})
        assert reader.read() == 'old'
    assert path.read_text() == 'new'


def test_lists_of_unusable_files_hold_no_formula(tmp_path):
    """A spreadsheet would open the link."""
    name = '=HYPERLINK("http://x","y")'
    clips = [Clip('a', '-2+3', '', 'a'), Clip(name, '-2+3', '@SUM(1): x', '')]
    write_annotations(tmp_path, {'-1+1': clips}, ['-2+3'], [2], ' ')
    assert (tmp_path / 'unusable.txt').read_text() == (
        f"'-1+1\t'{name}\t'-2+3\t'@SUM(1): x\n"
    )
    assert (tmp_path / '-1+1').read_text() == 'a 0\n'
