"""What the scripts share: files are written whole or not at all."""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from cgnl_mm.errors import SetupError


@pytest.fixture
def prepare(scripts):
    return scripts('lists')


@pytest.fixture
def args(prepare):
    parser = argparse.ArgumentParser()
    prepare.add_options(parser, decode=True, what='files')
    return parser.parse_args(['--quiet', '--workers', '3'])


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


def test_a_read_only_folder_is_told(prepare, args):
    # nobody may not enter the folder of root's tests
    with tempfile.TemporaryDirectory(dir='/tmp') as name:
        folder = Path(name)
        (folder / 'a.txt').write_text('old')
        folder.chmod(0o555)
        with without_privileges():
            denied = 'cannot write .*Permission denied'
            with pytest.raises(SetupError, match=denied):
                prepare.write_all(folder, {'a.txt': 'new'}, args)
            # but what would not change needs no permission
            assert prepare.write_all(folder, {'a.txt': 'old'}, args)
        folder.chmod(0o755)
        assert [p.read_text() for p in folder.iterdir()] == ['old']


@pytest.mark.skipif(not Path('/proc/self').is_dir(), reason='needs Linux')
def test_a_folder_that_cannot_be_made_is_told(prepare, args):
    with pytest.raises(SetupError, match='cannot write /proc/lists/here: No'):
        prepare.write_all(Path('/proc/lists/here'), {'a.txt': ''}, args)


def test_an_interrupted_run_leaves_no_temporary_files(prepare, args, tmp_path):
    """The second text cannot be encoded: an error in the middle."""
    (tmp_path / 'a.txt').write_text('old')
    with pytest.raises(UnicodeEncodeError):
        prepare.write_all(tmp_path, {'a.txt': 'new', 'b': '\udce9'}, args)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['old']


def test_unusable_files_are_no_formulas(prepare):
    """A spreadsheet would open the link."""
    report = prepare.Report('-1+1', ['-2+3'])
    name = '=HYPERLINK("http://x","y").jpg'
    assert not report.add(name, '-2+3', '@SUM(1): x')
    report.add('a.jpg', '-2', 'missing')  # a number
    assert prepare.unusable_list([report]) == (
        f"'-1+1\t'{name}\t'-2+3\t'@SUM(1): x\n'-1+1\ta.jpg\t-2\tmissing\n"
    )


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


def test_a_reader_of_the_old_file_is_not_disturbed(prepare, args, tmp_path):
    """Files are replaced, not written over."""
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with path.open() as reader:
        prepare.write_all(tmp_path, {'a.txt': 'new'}, args)
        assert reader.read() == 'old'
    assert path.read_text() == 'new'


def test_lines_end_at_newlines_alone(prepare, tmp_path):
    """As the hosts read them; str.splitlines knows eight more."""
    path = tmp_path / 'list.txt'
    path.write_text('a\x0bb 0\n\u2028c 1\r\n', newline='')
    lines = [line for _, line in prepare.read_lines(path, '')]
    assert lines == ['a\x0bb 0', 'c 1']


def test_folders_come_sorted(prepare, tmp_path):
    for name in 'cab':
        (tmp_path / name).mkdir()
    found = [folder for folder, _ in prepare.walk(tmp_path, '--root')]
    assert found == ['', 'a', 'b', 'c']


def test_the_printed_link_does_what_it_says(
    prepare, tmp_path, monkeypatch, capsys
):
    """With blanks in the path; and it never goes into a real folder."""
    monkeypatch.chdir(tmp_path)
    given = tmp_path / 'my clips'
    given.mkdir()
    prepare.print_links({Path('data/videos'): given})
    command = capsys.readouterr().out.partition(': ')[2]
    subprocess.run(['sh', '-c', command], check=True)
    assert Path('data/videos').resolve() == given
    Path('data/videos').unlink()
    Path('data/videos').mkdir()
    assert subprocess.run(['sh', '-c', command]).returncode != 0
    assert not list(Path('data/videos').iterdir())


def test_a_clip_whose_end_is_missing_is_unreadable(prepare, tmp_path):
    """Its index comes first, so half a download opens and starts."""
    whole, half = tmp_path / 'whole.mp4', tmp_path / 'half.mp4'
    frames = np.random.default_rng(0).integers(
        0, 256, (90, 64, 64, 3), np.uint8
    )
    with av.open(
        str(whole), 'w', options={'movflags': 'faststart'}
    ) as container:
        stream = container.add_stream('libx264', rate=30)
        stream.width = stream.height = 64
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    content = whole.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    assert prepare.fault(whole, prepare.decode_clip) == ''
    assert prepare.fault(half, prepare.decode_clip).startswith('unreadable')


@pytest.mark.starts('without the packages of the environment')
def test_without_torch_a_script_ends_in_one_line():
    script = Path(__file__).parents[3] / 'tools/data/cub.py'
    done = subprocess.run(
        [sys.executable, '-S', script], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith('error: ')
    assert '.venv/bin/activate' in done.stderr
