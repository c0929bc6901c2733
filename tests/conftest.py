"""Same conditions for every test: one thread, fixed seeds, poison on demand.

The repository root is put on the path by pyproject.toml.
"""

import importlib.util
import os
import random
import re

# inherited by the processes that tests start
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

if 'PYTEST_XDIST_WORKER' in os.environ:
    torch.set_num_threads(1)  # the workers share the cores

# hosts are optional: what fails for the want of one is skipped, and says so
MISSING = [
    name
    for name in ('mmpretrain', 'mmaction', 'mmdet', 'mmseg')
    if importlib.util.find_spec(name) is None
]
NAMES = '|'.join(MISSING)
# of an exception here, or of a process, whose output is the message
WANTED = re.compile(
    rf"^.*(?:ModuleNotFoundError: No module named '({NAMES})[.']"
    rf'|(?:Error|error): ({NAMES})2? is not installed)',
    re.M,
)


def skip_for_missing_host(report, text: str) -> None:
    found = WANTED.search(text) if MISSING and report.failed else None
    if found:
        report.outcome = 'skipped'
        host = found[1] or found[2]
        report.longrepr = (str(report.nodeid), 0, f'needs {host}')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    report = yield
    text, error = '', call.excinfo and call.excinfo.value
    while error:
        text += f'{type(error).__name__}: {error}\n'
        error = error.__cause__ or error.__context__
    skip_for_missing_host(report, text)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    skip_for_missing_host(report, str(report.longrepr))
    return report


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


@pytest.fixture(scope='module')
def interpreted(request, tmp_path_factory):
    """What the cases of this file came to in Triton's interpreter."""
    from triton_runs import interpret

    return interpret(request.path, tmp_path_factory.mktemp('triton'))


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
