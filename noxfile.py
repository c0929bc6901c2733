"""Run the test suite on other versions; docs/install.md holds the results.

    pip install nox
    nox                        # every set of which the Python is installed
    nox -s 'tests(oldest)' -- core             # without whole trainings
    nox -s 'tests(oldest)' -- tests/blocks -n 2
    nox -s mmcv                # compile mmcv for the set `compiled`, by hand

Each set gets an environment of its own, of some gigabytes.
"""

import re
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
WHEELS = ROOT / '.nox/wheels'
PINNED = '-c', 'requirements/constraints.txt'
COMMON = '-e', '.[all,test]', 'setuptools>=70.1,<81'
LITE = 'mmcv-lite==2.1.0'
# The forks have the same import names, and mmaction has none. No package may
# install the originals, so every package that the tests need is named here.
FORKS = (
    'torch', 'torchvision', 'onedl-mmengine==0.10.12', 'onedl-mmcv==2.3.6',
    'onedl-mmpretrain==1.3.6', 'onedl-mmdetection==3.5.1', 'allpairspy',
    'hypothesis', 'pytest', 'pytest-xdist', 'scikit-learn', 'setuptools',
    'ruff', 'onnx', 'onnxscript', 'onnxruntime', 'av',
)  # fmt: skip
# The version of Python, and what pip installs.
SETS = {
    'oldest': ('3.10', (
        'torch==2.1.2', 'torchvision==0.16.2', 'numpy==1.26.4', LITE, *COMMON,
    )),
    'torch2.6': ('3.11', (
        'torch==2.6.0', 'torchvision==0.21.0', LITE, *COMMON,
    )),
    'torch2.11': ('3.12', (
        'torch==2.11.0', 'torchvision==0.26.0', LITE, *COMMON,
    )),
    'newest': ('3.11', (*PINNED, LITE, *COMMON)),
    'compiled': ('3.11', (
        *PINNED, '--find-links', str(WHEELS), '--only-binary=mmcv',
        'mmcv==2.1.0', *COMMON,
    )),
    'onedl': ('3.11', (*PINNED, *FORKS, '-e', '.')),
}  # fmt: skip
# Most whole trainings are left out: they run the hosts' code in the same way.
CORE = [
    '--ignore=tests/docs', '--ignore=tests/test_wheel.py',
    '--ignore=tests/benchmark', '--ignore=tests/datasets/prepare',
    '--ignore=tests/deploy', *(
        f'--ignore=tests/tools/test_{name}.py'
        for name in (
            'benchmark', 'demo', 'deploy', 'launchers',
            'misuse', 'processes', 'recipes', 'reproduce', 'resume',
            'visualize_attention',
        )
    ),
]  # fmt: skip
nox.options.sessions = ['tests']
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


@nox.session
@nox.parametrize(
    'python, packages',
    [nox.param(*SETS[name], id=name) for name in SETS],
)
def tests(session, packages):
    """Run the test suite with one set of versions."""
    session.install(*packages)
    options = session.posargs or ['-n', '2']
    if options == ['core']:
        options = [*CORE, '-n', '2']
    session.run(
        'python', '-m', 'pytest', '--dist', 'loadfile', *options,
        env=dict(OMP_NUM_THREADS='1'),
    )  # fmt: skip


@nox.session(python=SETS['newest'][0])
def mmcv(session):
    """Compile mmcv against the torch of the set ``newest``, in half an hour.

    The setup of mmcv asks for C++14 or 17, the headers of torch for C++20.
    """
    session.install(*SETS['newest'][1], 'wheel', 'ninja', 'psutil')
    pip = 'python', '-m', 'pip'
    folder = WHEELS / 'mmcv-2.1.0'
    session.run(
        *pip, 'download', '--no-deps', '--no-binary=mmcv',
        '--no-build-isolation', '-d', str(WHEELS), 'mmcv==2.1.0',
    )  # fmt: skip
    shutil.unpack_archive(f'{folder}.tar.gz', WHEELS, filter='data')
    setup = folder / 'setup.py'
    setup.write_text(re.sub('c[+][+]1[47]', 'c++20', setup.read_text()))
    session.run(
        *pip, 'wheel', '--no-deps', '--no-build-isolation',
        '-w', str(WHEELS), str(folder),
    )  # fmt: skip
