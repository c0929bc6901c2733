"""What the scripts share: files are written whole or not at all."""

import argparse
import os
from pathlib import Path

import pytest

from cgnl_mm.errors import SetupError


@pytest.fixture
def prepare(scripts):
    return scripts('_prepare')


@pytest.fixture
def args(prepare):
    parser = argparse.ArgumentParser()
    prepare.add_options(parser, decode=True, what='files')
    return parser.parse_args(['--quiet', '--workers', '3'])


def test_a_read_only_folder_is_told(prepare, args, tmp_path):
    (tmp_path / 'a.txt').write_text('old')
    tmp_path.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip('root may write anywhere')
        with pytest.raises(SetupError, match='cannot write .*Permission den'):
            prepare.write_all(tmp_path, {'a.txt': 'new'}, args)
        # but what would not change needs no permission
        assert prepare.write_all(tmp_path, {'a.txt': 'old'}, args)
    finally:
        tmp_path.chmod(0o755)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


@pytest.mark.skipif(not Path('/proc/self').is_dir(), reason='needs Linux')
def test_a_folder_that_cannot_be_made_is_told(prepare, args):
    with pytest.raises(SetupError, match='cannot write /proc/lists/here: No'):
        prepare.write_all(Path('/proc/lists/here'), {'a.txt': ''}, args)


def test_an_interrupted_run_leaves_no_temporary_files(
    prepare, args, tmp_path
):
    """The second text cannot be encoded: an error in the middle."""
    (tmp_path / 'a.txt').write_text('old')
    with pytest.raises(UnicodeEncodeError):
        prepare.write_all(tmp_path, {'a.txt': 'new', 'b': '\udce9'}, args)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


def test_faults_come_in_the_order_of_the_files(prepare, args, tmp_path):
    """More of them than go to the threads at once."""
    paths = [tmp_path / str(number) for number in range(2500)]
    for path in paths[::7]:
        path.write_bytes(b'x')
    seen = []
    faults = prepare.find_faults(paths, '', args, seen.append)
    assert faults == [
        '' if number % 7 == 0 else 'missing' for number in range(2500)
    ]
    assert sorted(seen) == sorted(paths[::7])


@pytest.mark.parametrize(
    'path',
    ['', '.', '/', '/a', '//a', '..', 'a/..', '../a', 'a/../../b', '\\a']
    + ['..\\a', 'a\\..\\b', 'C:\\a', 'C:a', 'a\x00b', 'a\nb', 'a\u202eb'],
)
def test_paths_that_leave_the_folder_are_refused(prepare, path):
    with pytest.raises(SetupError, match='list.txt, line 3: .* is no path'):
        prepare.relative_path(path, 'list.txt, line 3')


@pytest.mark.parametrize(
    'path', ['a', 'a b/c.jpg', 'caf\u00e9/\u65e5.mp4', '..a/b..', '-a', '~/a']
)
def test_paths_below_the_folder_stay_as_they_are(prepare, path):
    assert prepare.relative_path(path, '') == path
