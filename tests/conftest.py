"""Define the suite's tiers, its warm processes and the tests' conditions.

pyproject.toml puts the repository root on the path.
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

# The processes that tests start inherit these variables.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')
# A user's matplotlibrc would change the colours of the figures.
os.environ['MATPLOTLIBRC'] = os.devnull

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

# The hosts are optional: a test that fails for lack of one is skipped, and
# the reason names the host.
HOSTS = ('mmpretrain', 'mmaction', 'mmdet', 'mmseg')
MISSING = [name for name in HOSTS if importlib.util.find_spec(name) is None]
NAMES = '|'.join(MISSING)
# The pattern fits an exception and the output of a process that ended by one.
WANTED = re.compile(
    rf"^.*(?:ModuleNotFoundError: No module named '({NAMES})[.']"
    rf'|(?:Error|error): ({NAMES})2? is not installed)',
    re.M,
)

# An old torch lacks some float16 operators on a CPU. Its errors name them.
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
    """Yield a text for each error of a group, with the errors behind it."""
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
    what = 'nightly tests, too, products in place of pairs, more random draws'
    parser.addoption('--all', action='store_true', help=what)


def pytest_configure(config):
    hypothesis.settings.register_profile(
        'tier',
        max_examples=3000 if config.option.all else 80,
        deadline=None,
        derandomize=not config.option.all,
        # The time of a draw depends on what else the machine does.
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile('tier')


def pytest_generate_tests(metafunc):
    """Give a ``pairs`` test each pair of values; with --all, the product."""
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
    """Yield the values of a case; a factor named 'a, b' holds two."""
    for names, value in zip(factors, case):
        if ',' in names:
            yield from value
        else:
            yield value


def pytest_collection_modifyitems(config, items):
    if not config.option.all:
        nightly = [x for x in items if x.get_closest_marker('nightly')]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [x for x in items if not x.get_closest_marker('nightly')]
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(pytest.mark.skip(reason='needs a GPU'))


def pytest_collection_finish():
    # mmengine collects garbage for each data set that it builds. A collection
    # that skips the imported modules takes a tenth of the time.
    gc.collect()
    gc.freeze()


# PyAV's decoders lie in reference cycles. A forked worker of a DataLoader
# that freed a decoder would wait for ever for the decoder's threads.
os.register_at_fork(before=gc.collect)


running = None  # the test that runs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global running
    running = item
    try:
        return (yield)
    finally:
        running = None


def forbid_starts(event, args):
    """Fail a test that starts an interpreter without the mark ``starts``."""
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
    """Make a folder that many tests need, once for all workers.

    ``once(name, make)`` returns the folder, which ``make(folder)`` has filled.
    """
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        root = root.parent

    def get(name, make=lambda folder: None):
        folder, done = root / name, root / f'{name}.done'
        with FileLock(root / f'{name}.lock'):
            if not done.exists():
                # A call of make that failed may have left files.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                make(folder)
                done.touch()
        return folder

    return get


def serve(once, name, modules):
    """Start a warm process, or find another worker's, and hold a lease."""
    folder = once(name, lambda folder: start_server(folder, modules))
    path = Path((folder / 'address').read_text())
    with socket.socket(socket.AF_UNIX) as lease:
        lease.connect(str(path))
        lease.sendall(b'hold')
        yield path.with_name('bin') / 'python'


def start_server(folder, modules):
    # The path of a socket has at most 108 characters.
    path = Path(tempfile.mkdtemp(prefix='warm')) / 'socket'
    # MMEngine takes what lies two folders above for Python's own modules.
    stub = path.with_name('bin') / 'python'
    stub.parent.mkdir()
    command = f"'{sys.executable}' -I -S '{WARM}' run '{path}'"
    stub.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    stub.chmod(0o755)
    with open(path.with_name('log'), 'wb') as log:
        server = subprocess.Popen(
            # The word env tells forbid_starts that this start is meant.
            ['env', sys.executable, WARM, 'serve', path, *modules],
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not path.exists():
        assert server.poll() is None, path.with_name('log').read_text()
        time.sleep(0.05)
    (folder / 'address').write_text(str(path))


@pytest.fixture(scope='session')
def warm(once):
    """Give a ``python`` that has imported torch, the hosts and cgnl_mm.

    The command takes a script, ``-m`` or ``-c``, as an interpreter does, and
    starts in 0.1 s in place of 8. Its programs have it as sys.executable.
    """
    hosts = [f'{host}.apis' for host in HOSTS if host not in MISSING]
    plots, runner = 'matplotlib.pyplot', 'mmengine.runner'
    modules = ('torch', 'torchvision', plots, 'cgnl_mm', runner, *hosts)
    yield from serve(once, 'warm', modules)


@pytest.fixture(scope='session')
def warm_torch(once):
    """Give a ``python`` that has imported torch and nothing of OpenMMLab."""
    yield from serve(once, 'warm_torch', ('torch', 'torchvision'))


@pytest.fixture(scope='session')
def python(warm, warm_torch):
    """Run ``python(*args, off=None, path='', cwd=None, status=0)``.

    The call returns the program's output. ``off`` is a value of
    CGNL_MM_COMPAT: with it the program starts with torch alone imported,
    without it with every host and cgnl_mm. ``path`` stands before the
    repository on PYTHONPATH. The program must end with ``status``.
    """

    def run(*args, off=None, path='', cwd=None, status=0):
        folders = (path, ROOT, os.environ.get('PYTHONPATH'))
        folders = os.pathsep.join(map(str, filter(None, folders)))
        done = subprocess.run(
            [warm if off is None else warm_torch, *map(str, args)],
            env=dict(os.environ, CGNL_MM_COMPAT=off or '', PYTHONPATH=folders),
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
    """Let mmengine find each base of a config once.

    mmengine parses the 85 YAML files of a host for each base.
    """
    from mmengine.config import Config

    cached = staticmethod(functools.cache(Config._get_cfg_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, '_get_cfg_path', cached)
        yield


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_default_scope():
    """Remove the default scope that a test has given to mmengine."""
    yield
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture
def poison():
    """Fill ``torch.empty`` and its kin with NaN (integers: the maximum).

    An operator that reads memory that it never wrote then returns NaN.
    """
    if not hasattr(torch.utils, 'deterministic'):
        pytest.skip('needs torch >= 2.2')
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    # PyTorch fills only in deterministic mode. Operators without a
    # deterministic form must still run.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory = before[2]
