"""Lists are read with the line in each error, and written whole."""

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgnl_mm.datasets.prepare import lists
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
        with without_privileges():
            denied = 'cannot write .*Permission denied'
            with pytest.raises(SetupError, match=denied):
                lists.write_lists(folder, {'a.txt': 'new'}, False)
            # but what would not change needs no permission
            assert lists.write_lists(folder, {'a.txt': 'old'}, False)
        folder.chmod(0o755)
        assert [p.read_text() for p in folder.iterdir()] == ['old']


def test_an_interrupted_run_leaves_no_temporary_files(tmp_path):
    """The second text cannot be encoded: an error in the middle."""
    (tmp_path / 'a.txt').write_text('old')
    with pytest.raises(UnicodeEncodeError):
        lists.write_lists(tmp_path, {'a.txt': 'new', 'b': '\udce9'}, False)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


@pytest.mark.parametrize(
    'path',
    ['', '.', '/', '/a', '//a', '..', 'a/..', '../a', 'a/../../b']
    + ['a\x00b', 'a\nb', 'a\u202eb'],
)
def test_paths_that_leave_the_folder_are_refused(path):
    with pytest.raises(SetupError, match='list.txt, line 3: .* is not a path'):
        lists.relative_path(path, 'list.txt, line 3')


@pytest.mark.parametrize(
    'path', ['a', 'a b/c.jpg', 'caf\u00e9/\u65e5.mp4', '..a/b..', '-a', '~/a']
)
def test_paths_below_the_folder_stay_as_they_are(path):
    assert lists.relative_path(path, '') == path


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    """Files are replaced, not written over."""
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with path.open() as reader:
        lists.write_lists(tmp_path, {'a.txt': 'new'}, False)
        assert reader.read() == 'old'
    assert path.read_text() == 'new'


def test_lines_end_at_newlines_alone(tmp_path):
    """As the hosts read them; str.splitlines knows eight more."""
    path = tmp_path / 'list.txt'
    path.write_text('a\x0bb 0\n\u2028c 1\r\n', newline='')
    lines = [line for _, line in lists.read_lines(path, '')]
    assert lines == ['a\x0bb 0', 'c 1']


def test_a_file_in_another_encoding_is_told_with_the_line(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'a 0\ncaf\xe9 1\n')
    with pytest.raises(SetupError, match='list.txt, line 2: not UTF-8'):
        list(lists.read_lines(path, ''))


def test_the_printed_link_does_what_it_says(tmp_path, monkeypatch, capsys):
    """With blanks in the path; and it never goes into a real folder."""
    monkeypatch.chdir(tmp_path)
    given = tmp_path / 'my clips'
    given.mkdir()
    lists.print_links({Path('data/videos'): given})
    command = capsys.readouterr().out.partition(': ')[2]
    subprocess.run(['sh', '-c', command], check=True)
    assert Path('data/videos').resolve() == given
    Path('data/videos').unlink()
    Path('data/videos').mkdir()
    assert subprocess.run(['sh', '-c', command]).returncode != 0
    assert not list(Path('data/videos').iterdir())
