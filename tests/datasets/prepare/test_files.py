"""Files are found, looked at in parallel and counted."""

from argparse import Namespace

from miniatures import write_clip

from cgnl_mm.datasets.prepare import files


def test_files_come_sorted(tmp_path):
    for name in ('c/x.PNG', 'a/x.png', 'x.png', 'b/x.txt', 'a/b/x.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files.find_files(tmp_path, ('.png',), '--root') == [
        'x.png', 'a/x.png', 'a/b/x.png', 'c/x.PNG',
    ]  # fmt: skip


def test_faults_come_in_the_order_of_the_files(tmp_path):
    """There are more files than go to the threads at once."""
    paths = [tmp_path / str(number) for number in range(2500)]
    for path in paths[::7]:
        path.write_bytes(b'x')
    seen = []
    args = Namespace(decode=True, workers=3, quiet=True)
    assert files.find_faults(paths, '', args, seen.append) == [
        '' if number % 7 == 0 else 'missing' for number in range(2500)
    ]
    assert sorted(seen) == sorted(paths[::7])


def test_lists_of_unusable_files_hold_no_formula():
    """A spreadsheet would open the link."""
    name = '=HYPERLINK("http://x","y").jpg'
    rows = [(name, '-2+3', '@SUM(1): x', ''), ('a.jpg', '-2', 'missing', '')]
    report = files.Report('-1+1', ['-2+3'], rows)
    assert files.unusable_list([report]) == (
        f"'-1+1\t'{name}\t'-2+3\t'@SUM(1): x\n'-1+1\ta.jpg\t-2\tmissing\n"
    )


def test_a_clip_whose_end_is_missing_is_unreadable(tmp_path):
    """Its index comes first, so half a download opens and starts."""
    whole, half = tmp_path / 'whole.mp4', tmp_path / 'half.mp4'
    write_clip(whole, frames=90, movflags='faststart')
    content = whole.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    args = Namespace(decode=True, workers=1, quiet=True)
    found = files.find_faults([whole, half], '', args, files.decode_clip)
    assert found[0] == ''
    assert found[1].startswith('unreadable: ')
