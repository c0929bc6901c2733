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
