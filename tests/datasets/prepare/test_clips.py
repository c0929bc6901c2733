"""Lists of clips are written whole, or not at all."""

import resource

import pytest

from cgnl_mm.datasets.prepare.clips import write_files


def test_a_full_disk_leaves_the_old_lists(tmp_path):
    """The operating system refuses to write more than one byte."""
    (tmp_path / 'a.txt').write_text('old')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
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
