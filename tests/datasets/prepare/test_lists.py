"""Lists are read with the line in each error."""

from pathlib import PurePosixPath

import pytest

from cgnl_mm.datasets.prepare import lists
from cgnl_mm.errors import SetupError


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
    assert lists.relative_path(path, '') == PurePosixPath(path)


def test_lines_end_at_newlines_alone(tmp_path):
    """As the hosts read them; str.splitlines knows eight more."""
    path = tmp_path / 'list.txt'
    path.write_text('a\x0bb 0\n\u2028c 1\r\n', newline='')
    lines = [line for _, line in lists.read_lines(path, '')]
    assert lines == ['a\x0bb 0', 'c 1']
