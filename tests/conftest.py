"""The tiers of the suite, warm processes, and the same conditions for all.

The repository root is put on the path by pyproject.toml.
"""

import functools
import gc
import importlib.util
import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# inherited by the processes that tests start
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from allpairspy import AllPairs  # noqa: E402
from filelock import FileLock  # noqa: E402

ROOT = Path(__file__).parents[1]
WARM = Path(__file__).with_name('warm.py')

if 'PYTEST_XDIST_WORKER' in os.environ:
    torch.set_num_threads(1)  # the workers share the cores

# hosts are optional: what fails for the want of one is skipped, and says so
HOSTS = ('mmpretrain', 'mmaction', 'mmdet', 'mmseg')
MISSING = [name for name in HOSTS if importlib.util.find_spec(name) is None]
NAMES = '|'.join(MISSING)
# of an exception here, or of a process, whose output is the message
WANTED = re.compile(
    rf"^.*(?:ModuleNotFoundError: No module named '({NAMES})[.']"
    rf'|(?:Error|error): ({NAMES})2? is not installed)',
    re.M,
)


# of torch's own operators, of which an old one has a part for a CPU
OLD_TORCH = torch.__version__ < '2.3'
NO_HALF = re.compile(
    "not implemented for 'Half'|AutocastCPU only support Bfloat16"
)


def reason_to_skip(text: str):
    found = WANTED.search(text) if MISSING else None
    if found:
        return f'needs {found[1] or found[2]}'
    if OLD_TORCH and NO_HALF.search(text):
        return 'torch < 2.3 lacks float16 on a CPU'


def texts_of(error):
    """Of each error in a group, with what it was raised from."""
    text = ''
    while error:
        if hasattr(error, 'exceptions'):
            for member in error.exceptions:
                yield from texts_of(member)
            return
        text += f'{type(error).__name__}: {error}\n'
        error = error.__cause__ or error.__context__
    yield text


def skip_for_what_is_missing(report, texts) -> None:
    reasons = [reason_to_skip(text) for text in texts]
    if report.failed and reasons and all(reasons):
        report.outcome = 'skipped'
        report.longrepr = (str(report.nodeid), 0, reasons[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    report = yield
    if call.excinfo:
        skip_for_what_is_missing(report, texts_of(call.excinfo.value))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    skip_for_what_is_missing(report, [str(report.longrepr)])
    return report


def pytest_addoption(parser):
    parser.addoption(
        '--all',
        action='store_true',
        help='the nightly tests, too, full products in place of pairs, and '
        'more random draws',
    )


def pytest_configure(config):
    draws = 3000 if config.option.all else 80
    hypothesis.settings.register_profile(
        'tier', max_examples=draws, deadline=None, derandomize=True
    )
    hypothesis.settings.load_profile('tier')


def pytest_generate_tests(metafunc):
    """``pairs``: each pair of values of any two factors; all with --all."""
    for marker in metafunc.definition.iter_markers('pairs'):
        (factors,) = marker.args
        if metafunc.config.option.all:
            cases = itertools.product(*factors.values())
        else:
            cases = AllPairs([list(values) for values in factors.values()])
        metafunc.parametrize(
            ', '.join(factors), [list(flat(factors, case)) for case in cases]
        )


def flat(factors, case):
    """The values of one case; a factor 'a, b' has two."""
    for names, value in zip(factors, case):
        if ',' in names:
            yield from value
        else:
            yield value


def pytest_collection_modifyitems(config, items):
    left_out = set()
    for item in items:
        if item.get_closest_marker('nightly') and not config.option.all:
            left_out.add(item)
        elif item.get_closest_marker('gpu') and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason='needs a GPU'))
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    # mmengine collects garbage for each data set that it builds: without a
    # look at all that is imported it takes a tenth of the time
    gc.collect()
    gc.freeze()


# PyAV's decoders lie in cycles; a worker of a DataLoader, which is forked,
# would wait for ever for the threads of one that it frees
os.register_at_fork(before=gc.collect)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global running
    running = item
    try:
        return (yield)
    finally:
        running = None


running = None


def forbid_starts(event, args):
    """Only a test that is marked ``starts`` may start an interpreter."""
    if event != 'subprocess.Popen' or running is None:
        return
    program, _, _, env = args
    started = [os.fspath(program), (env or os.environ).get('PYTHON')]
    if sys.executable in started and not running.get_closest_marker('starts'):
        raise RuntimeError(
            'start the program by the fixture `warm`, or say why this test '
            'needs an interpreter of its own: pytest.mark.starts(REASON)'
        )


sys.addaudithook(forbid_starts)


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """Make what many tests need once for all workers.

    ``once(name, make)`` returns a folder that ``make(folder)`` has filled.
    """
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        root = root.parent

    def get(name, make=lambda folder: None):
        folder, done = root / name, root / f'{name}.done'
        with FileLock(root / f'{name}.lock'):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a failure
                folder.mkdir(parents=True)
                make(folder)
                done.touch()
        return folder

    return get


IMPORTED_BY_ALL = ('torch', 'torchvision', 'matplotlib.pyplot', 'cgnl_mm')


def serve(once, name, modules):
    """Start a warm process, or find that of another worker; hold a lease."""
    folder = once(name)
    with FileLock(folder / 'lock'):
        address = folder / 'address'
        if not address.exists():
            start_server(address, modules)
    path = Path(address.read_text())
    lease = socket.socket(socket.AF_UNIX)
    lease.connect(str(path))
    lease.sendall(b'hold')
    return path.with_name('python'), lease


def start_server(address, modules):
    global running
    # the path of a socket has at most 108 characters
    path = Path(tempfile.mkdtemp(prefix='warm')) / 'socket'
    stub = path.with_name('python')
    command = f"'{sys.executable}' -I -S '{WARM}' run '{path}'"
    stub.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    stub.chmod(0o755)
    item, running = running, None
    with open(path.with_name('log'), 'wb') as log:
        server = subprocess.Popen(
            [sys.executable, WARM, 'serve', path, *modules],
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = item
    while not path.exists():
        said = path.with_name('log').read_text()
        assert server.poll() is None, said
        time.sleep(0.05)
    address.write_text(str(path))


@pytest.fixture(scope='session')
def warm(once):
    """A ``python`` that has imported torch, the hosts and cgnl_mm.

    It is started as an interpreter is, in 0.1 s instead of 8, for scripts,
    ``-m`` and ``-c``, and so are the ones that its processes start.
    """
    hosts = [f'{host}.apis' for host in HOSTS if host not in MISSING]
    modules = (*IMPORTED_BY_ALL, 'mmengine.runner', *hosts)
    python, lease = serve(once, 'warm', modules)
    yield python
    lease.close()


@pytest.fixture(scope='session')
def warm_torch(once):
    """A ``python`` that has imported torch, and nothing of OpenMMLab."""
    python, lease = serve(once, 'warm_torch', ('torch', 'torchvision'))
    yield python
    lease.close()


@pytest.fixture(scope='session')
def python(warm, warm_torch):
    """``python(*args, off=None, path='', cwd=None, status=0)``: its output.

    With ``off``, a value of CGNL_MM_COMPAT, the program starts where torch
    alone is imported; without it, every host and cgnl_mm are. ``path`` stands
    before the repository on PYTHONPATH; the program must end with ``status``.
    """

    def run(*args, off=None, path='', cwd=None, status=0):
        folders = (path, ROOT, os.environ.get('PYTHONPATH'))
        env = dict(
            CGNL_MM_COMPAT=off or '',
            PYTHONPATH=os.pathsep.join(map(str, filter(None, folders))),
        )
        done = subprocess.run(
            [warm if off is None else warm_torch, *map(str, args)],
            env={**os.environ, **env},
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope='session', autouse=True)
def bases_are_looked_up_once():
    """mmengine parses a host's 85 YAML files for each base of a config."""
    from mmengine.config import Config

    Config._get_cfg_path = staticmethod(functools.cache(Config._get_cfg_path))


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_default_scope():
    """A test that sets mmengine's default scope leaves none behind."""
    yield
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture
def poison():
    """Fill ``torch.empty`` and its kin with NaN (integers: the maximum).

    An operator that reads what it never wrote then shows it.
    """
    if not hasattr(torch.utils, 'deterministic'):
        pytest.skip('needs torch >= 2.2')
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    # PyTorch fills only in deterministic mode; operators without a
    # deterministic form must still run
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory = before[2]
