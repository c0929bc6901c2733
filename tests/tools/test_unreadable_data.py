"""Trainings whose data set has broken files, as real processes."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cgnl_mm.training.unreadable import FaultLog

HOOK = """
custom_hooks = [dict(type='UnreadableDataHook', limit={limit})]
train_dataloader.update(num_workers=2)
"""


@pytest.fixture
def broken(project, tmp_path):
    """The project with 3 of 24 training images broken, each another way."""
    shutil.copytree(project / 'data', tmp_path / 'data')
    shutil.copy(project / 'tiny.py', tmp_path)
    folder = tmp_path / 'data/train/a'
    (folder / '0.png').write_bytes(b'')
    (folder / '1.png').write_text('<html>404</html>')
    content = (folder / '2.png').read_bytes()
    (folder / '2.png').write_bytes(content[: len(content) // 2])
    return tmp_path


@pytest.fixture
def train(run_tool, broken):
    def run(*options, lines='', limit=0.2, status=0, tool='train.py'):
        with (broken / 'tiny.py').open('a') as config:
            config.write(HOOK.format(limit=limit) + lines)
        done = run_tool(tool, 'tiny.py', *options, cwd=broken, status=status)
        return done.stdout + done.stderr

    return run


@pytest.fixture
def check(run_tool, tmp_path):
    def run(*options, cwd=tmp_path, **settings):
        return run_tool('data/check.py', *options, cwd=cwd, **settings)

    return run


def test_training_goes_on_and_reports_each_file_once(train, broken):
    said = train()
    skipped = re.findall(r'skipped: \S*/(\d).png: (.*)', said)
    assert sorted(name for name, _ in skipped) == ['0', '1', '2']
    assert dict(skipped)['0'] == 'zero bytes'
    assert dict(skipped)['1'].startswith('UnidentifiedImageError: ')
    summaries = re.findall(
        r'(\d+) of 24 training samples \(12.50%\) could not be read', said
    )
    assert summaries == ['3', '3']  # an epoch each
    (listed,) = broken.glob('work_dirs/tiny/*/unreadable_0.txt')
    # two workers in each of two epochs
    paths = [line.split('\t')[0] for line in listed.read_text().splitlines()]
    assert sorted(path.rpartition('/')[2] for path in paths) == [
        '0.png', '1.png', '2.png',
    ]  # fmt: skip
    assert (broken / 'work_dirs/tiny/epoch_2.pth').is_file()


def test_too_many_end_it_in_one_line(train):
    said = train(limit=0.05, status=2)
    error = said[said.index('error: ') :]
    assert re.match(
        r'error: \d of 24 training samples cannot be read, more than 5.00%: '
        r'see \S*unreadable_0.txt.*raise `limit`',
        error,
    )
    assert 'Traceback' not in error


def test_broken_validation_image_is_named(train, broken):
    (broken / 'data/val/b/3.png').write_bytes(b'')
    said = train(status=2)
    assert re.search(r'error: \S*val/b/3.png: zero bytes. A result', said)


def test_ranks_report_what_each_saw(train, broken):
    said = train('2', tool='dist_train.sh')
    assert re.search(
        r'3 of 24 training samples \(12.50%\).*unreadable_\*.txt', said
    )
    skipped = re.findall(r'skipped: \S*/(\d).png: ', said)
    assert sorted(skipped) == ['0', '1', '2']
    lists = list(broken.glob('work_dirs/tiny/*/unreadable_*.txt'))
    assert len(lists) == 2
    # half of the samples each; a substitute may be the other's
    found = [set(f.read_text().splitlines()) for f in lists]
    assert len({x.split('\t')[0] for x in set.union(*found)}) == 3


BY_ITERATIONS = """
train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)
train_cfg = dict(by_epoch=False, max_iters=9, val_interval=4)
default_hooks['checkpoint'] = dict(
    type='CheckpointHook', by_epoch=False, interval=9)
"""


def test_training_by_iterations_sums_up_at_each_validation(train):
    said = train(lines=BY_ITERATIONS)
    assert re.findall(
        r'WARNING - (\w+ \d+): 3 of 24 training samples', said
    ) == ['iteration 4', 'iteration 8', 'iteration 9']


SWITCHED = """
default_hooks['switch'] = dict(type='SwitchRecipeHook', schedule=[
    dict(action_epoch=1, train_pipeline=[*pipeline])])
"""


def test_pipeline_that_a_hook_puts_in_is_guarded(train):
    said = train(lines=SWITCHED)
    assert 'Switch train pipeline' in said
    assert '3 of 24 training samples' in said


def test_check_finds_what_training_would_skip(check, broken):
    done = check('tiny.py', '--out', 'broken.txt', status=1)
    assert 'train: 24 files, 3 broken (' in done.stdout
    assert 'val: 24 files, 0 broken\n' in done.stdout
    listed = dict(
        line.split('\t')
        for line in (broken / 'broken.txt').read_text().splitlines()
    )
    assert [path[-5:] for path in listed] == ['0.png', '1.png', '2.png']
    assert list(listed.values())[2].startswith('OSError: ')
    for path in listed:  # of a folder, which lists what is there
        (broken / path).unlink()
    check('tiny.py', status=0)


# A sitecustomize with this text makes the decoders of some files crash.
CRASHING_OPEN = """
import builtins, os, signal
plain = builtins.open
def open(path, *args, **kwargs):
    if str(path).endswith('5.png'):
        os.kill(os.getpid(), signal.SIGSEGV)
    return plain(path, *args, **kwargs)
builtins.open = open
"""


@pytest.fixture
def crash(tmp_path):
    path = tmp_path / 'faulty/sitecustomize.py'
    path.parent.mkdir()
    path.write_text(CRASHING_OPEN)
    return dict(PYTHONPATH=str(path.parent))


def test_check_survives_a_decoder_that_crashes(check, broken, crash):
    done = check('tiny.py', status=1, extra=crash)
    crashed = re.findall(r'(\S+)/(\S+).png: crash: the decoder', done.stdout)
    assert sorted({name for _, name in crashed}) == ['5']
    assert len(crashed) == 4  # two classes, two splits
    assert re.search(r'train: 24 files, 5 broken \(.*2 crash', done.stdout)
    for name in '012':
        assert re.search(rf'train/a/{name}.png: (?!crash)', done.stdout)


def test_training_with_a_decoder_that_crashes_says_where_to_look(
    run_tool, project, tmp_path, crash
):
    """PyTorch cannot tell which file it was."""
    done = run_tool(
        'train.py', 'tiny.py', '--work-dir', tmp_path, '--cfg-options',
        'train_dataloader.num_workers=1', cwd=project, status=2,
        extra=crash,
    )  # fmt: skip
    error = done.stderr[done.stderr.index('error: ') :]
    assert re.match(
        'error: a process of the data loader (is killed by signal: '
        r'Segmentation fault|exited unexpectedly)\. Either memory', error,
    )  # fmt: skip
    assert 'tools/data/check.py' in error
    assert 'Traceback' not in error


@pytest.fixture
def listing(tmp_path):
    """A config of mmaction2 with nothing but the samples of a list."""

    def write(kind, *lines):
        (tmp_path / 'list.txt').write_text('\n'.join(lines))
        (tmp_path / 'listing.py').write_text(
            "default_scope = 'mmaction'\n"
            f"train_dataloader = dict(dataset=dict(type='{kind}', "
            "ann_file='list.txt', pipeline=[]))\n"
        )
        return 'listing.py'

    return write


def test_check_lists_what_is_missing_and_tells_what_is_remote(
    check, listing, tmp_path
):
    name = '=HYPERLINK("x")&.mp4'
    remote = 's3://bucket/a.mp4 0', 'http://host/b.mp4 0'
    config = listing('VideoDataset', *remote, f'{name} 0', f'{name} 1')
    done = check(config, '--out', 'list.tsv', status=1)
    told = 'train: 3 files, 1 broken (1 missing), 2 remote: not checked\n'
    assert told in done.stdout
    assert f'{name}: missing' in done.stdout
    assert f'other labels: 1, such as {name}: [0], then [1]' in done.stdout
    assert 's3://' not in done.stdout
    # the list holds no formula
    assert (tmp_path / 'list.tsv').read_text() == f"'{name}\tmissing\n"
    (tmp_path / 'other.txt').write_text('\n'.join(remote))
    option = 'train_dataloader.dataset.ann_file=other.txt'
    done = check(config, '--cfg-options', option, status=0)
    assert 'train: 2 files, 0 broken, 2 remote: not checked' in done.stdout


def write_frames(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        image = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(image).save(folder / f'img_{number:05}.jpg')


def test_check_decodes_folders_of_frames(check, listing, tmp_path):
    for name in ('whole', 'empty', 'cut', 'short'):
        write_frames(tmp_path / name)
    (tmp_path / 'empty/img_00002.jpg').write_bytes(b'')
    content = (tmp_path / 'cut/img_00003.jpg').read_bytes()
    (tmp_path / 'cut/img_00003.jpg').write_bytes(content[:-100])
    frames = dict(whole=3, empty=3, cut=3, gone=3, short=4)
    lines = [f'{name} {number} 0' for name, number in frames.items()]
    done = check(listing('RawframeDataset', *lines), status=1)
    assert 'train: 5 files, 4 broken (2 missing' in done.stdout
    assert 'empty: zero bytes: img_00002.jpg' in done.stdout
    assert re.search(r'cut: OSError: .*: img_00003.jpg', done.stdout)
    assert 'gone: missing\n' in done.stdout
    assert 'short: missing: img_00004.jpg' in done.stdout
    assert 'whole' not in done.stdout


def test_list_of_a_training_holds_no_formula(tmp_path):
    path = tmp_path / 'unreadable_0.txt'
    log = FaultLog(str(path), limit=0.5, total=4)
    for _ in range(2):
        log('=1+1.mp4', '@SUM(1)')
    assert path.read_text() == "'=1+1.mp4\t'@SUM(1)\n"
