import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cgnl_mm.datasets.digit_scenes import prepare_digit_scenes
from cgnl_mm.datasets.digits import prepare_digits
from cgnl_mm.datasets.generate import VERSION, load_split, write_once
from cgnl_mm.datasets.moving_digits import prepare_moving_digits
from cgnl_mm.datasets.relations import prepare_relations
from cgnl_mm.errors import SetupError

WRITER = """
import sys, time
from cgnl_mm.datasets.generate import write_once
root, log, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
def build(folder):
    (folder / 'a.txt').write_text('half')
    open(log, 'a').write('built\\n')
    time.sleep(pause)
    (folder / 'a.txt').write_text('whole')
write_once(root, dict(n=1), build)
assert open(root + '/a.txt').read() == 'whole'
"""


@pytest.fixture
def start(warm, tmp_path):
    """Start a process that writes, and waits in the midst of it."""
    log = tmp_path / 'log'

    def start(pause):
        command = [warm, '-c', WRITER, tmp_path / 'd', log, str(pause)]
        return subprocess.Popen(command)

    return start


def test_processes_that_start_together_write_once(tmp_path, start):
    processes = [start(1.0) for _ in range(3)]
    assert [p.wait(60) for p in processes] == [0, 0, 0]
    assert (tmp_path / 'log').read_text() == 'built\n'


def test_killed_writer_leaves_no_data(tmp_path, start):
    process = start(60)
    while not (tmp_path / 'log').exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not (tmp_path / 'd').exists()
    assert start(0).wait(60) == 0


def test_failing_writer_leaves_no_data(tmp_path):
    def fail(folder):
        (folder / 'a.txt').write_text('half')
        raise RuntimeError('disk full')

    with pytest.raises(RuntimeError, match='disk full'):
        write_once(tmp_path / 'd', dict(n=1), fail)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    write_once(tmp_path / 'd', dict(n=1), lambda folder: None)
    record = json.loads((tmp_path / 'd/options.json').read_text())
    assert record == dict(n=1, version=VERSION)


def test_ready_data_may_be_read_only(tmp_path):
    write_once(tmp_path / 'd', dict(n=1), lambda folder: None)
    lock = tmp_path / 'd.lock'
    lock.unlink(missing_ok=True)
    lock.mkdir()  # nobody can lock here, root neither
    write_once(tmp_path / 'd', dict(n=1), pytest.fail)


def test_root_may_be_a_link(tmp_path):
    (tmp_path / 'big_disk').mkdir()
    (tmp_path / 'd').symlink_to(tmp_path / 'big_disk')
    write_once(
        tmp_path / 'd',
        dict(n=1),
        lambda folder: (folder / 'a.txt').write_text('here'),
    )
    assert (tmp_path / 'd').is_symlink()
    assert (tmp_path / 'big_disk/a.txt').read_text() == 'here'


@pytest.mark.parametrize('record, told', [
    (dict(n=2, version=VERSION), 'n=2.*n=1'),
    (dict(n=1), f'version=None.*version={VERSION}'),
])  # fmt: skip
def test_other_data_are_named_and_nothing_is_lost(tmp_path, record, told):
    (tmp_path / 'options.json').write_text(json.dumps(record))
    with pytest.raises(SetupError, match=told):
        write_once(tmp_path, dict(n=1), pytest.fail)
    assert json.loads((tmp_path / 'options.json').read_text()) == record


def test_missing_scikit_learn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(SetupError, match='pip install scikit-learn'):
        load_split('train')


PREPARE = dict(
    Digits=prepare_digits,
    DigitScenes=prepare_digit_scenes,
    MovingDigits=prepare_moving_digits,
    Relations=prepare_relations,
)


@pytest.mark.parametrize('name, option, value', [
    ('DigitScenes', 'num_test', 0),
    ('MovingDigits', 'size', 48),
    ('MovingDigits', 'num_frames', 1),
    ('MovingDigits', 'num_train', 0),
    ('MovingDigits', 'stand', 0.5),
    ('MovingDigits', 'stand', -0.1),
    ('Relations', 'task', 'other'),
    ('Relations', 'num_digits', 1),
    ('Relations', 'num_digits', 11),
    ('Relations', 'num_cues', 6),
    ('Relations', 'size', 48),
    ('Relations', 'gap', -1),
    ('Relations', 'gap', 2),
    ('Relations', 'gap', 3),
    ('Relations', 'num_test', 0),
])  # fmt: skip
def test_options_are_checked(tmp_path, name, option, value):
    with pytest.raises(ValueError, match=f'got {value}'):
        PREPARE[name](tmp_path / 'd', **{option: value})
    assert not (tmp_path / 'd').exists()


HOSTS = dict(
    DigitScenes='mmdet', MovingDigits='mmaction', Relations='mmaction'
)


@pytest.mark.parametrize('name', PREPARE)
def test_splits_are_checked(tmp_path, name, build):
    with pytest.raises(ValueError, match="got 'val'"):
        host = HOSTS.get(name, 'mmpretrain')
        build(host, name, tmp_path, split='val', pipeline=[])


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(SetupError, match='not generated by cgnl_mm'):
        write_once(tmp_path, dict(n=1), pytest.fail)
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_no_run_of_a_writer_is_in_both_splits():
    """The first digit of each run, from scikit-learn's MOOC."""
    from sklearn.datasets import load_digits

    starts = [0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415,
              1545, 1667]  # fmt: skip
    everything = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    runs = {}
    for split in ('train', 'test'):
        images = {image.tobytes() for image in load_split(split)[0]}
        indices = [
            i for i, im in enumerate(everything) if im.tobytes() in images
        ]
        assert len(indices) == dict(train=1287, test=450)[split]
        runs[split] = set(np.searchsorted(starts, indices, 'right'))
    assert runs['train'] == set(range(1, 11))
    assert runs['test'] == {11, 12, 13, 14}
