"""The test suite on other versions; the table of docs/install.md.

    pip install nox
    nox                        # every set whose Python is there
    nox -s 'tests(oldest)' -- core             # without whole trainings
    nox -s 'tests(oldest)' -- tests/blocks -n 2
    nox -s mmcv                # compile mmcv for the set `compiled`, by hand
    nox -s table               # write the table from the recorded results

Each set gets an environment of its own, some gigabytes. A run records what
it ran and how it ended in docs/versions/SET.json and rewrites the table; with
options of pytest after ``--`` it does not.
"""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from datetime import date
from pathlib import Path

import nox

ROOT = Path(__file__).parent
RESULTS = ROOT / 'docs/versions'
PAGE = ROOT / 'docs/install.md'
BEGIN, END = '<!-- versions: nox -s table -->', '<!-- versions: end -->'
COMMON = ['-e', '.[all,test]', 'setuptools>=70.1,<81']
LITE = 'mmcv-lite==2.1.0'
WHEELS = ROOT / '.nox/wheels'

# Python, and what differs from the newest of everything
SETS = {
    'oldest': ('3.10', [
        'torch==2.1.2', 'torchvision==0.16.2', 'numpy==1.26.4', LITE,
    ]),
    'torch2.6': ('3.11', ['torch==2.6.0', 'torchvision==0.21.0', LITE]),
    'torch2.11': ('3.12', ['torch==2.11.0', 'torchvision==0.26.0', LITE]),
    'newest': ('3.11', ['-c', 'requirements/constraints.txt', LITE]),
    'compiled': ('3.11', [
        '-c', 'requirements/constraints.txt',
        '--find-links', str(WHEELS), '--only-binary=mmcv', 'mmcv==2.1.0',
    ]),
    'onedl': ('3.11', [
        '-c', 'requirements/constraints.txt', 'torch', 'torchvision',
        'onedl-mmengine==0.10.12', 'onedl-mmcv==2.3.6',
        'onedl-mmpretrain==1.3.6', 'onedl-mmdetection==3.5.1',
    ]),
}  # fmt: skip
# forks under the same import names, without mmaction: nothing may bring the
# originals along, so that what the tests need is named here
FORKS = {
    'onedl': [
        'hypothesis', 'pytest', 'pytest-xdist', 'scikit-learn', 'setuptools',
        'ruff', 'onnx', 'onnxscript', 'onnxruntime', 'av',
    ],
}  # fmt: skip
# without most of the whole trainings, which take the hosts' code the same way
CORE = [
    '--ignore=tests/docs', '--ignore=tests/test_wheel.py',
    '--ignore=tests/tools/data', *(
        f'--ignore=tests/tools/test_{name}.py'
        for name in (
            'benchmark', 'demo_detection', 'export', 'infer', 'launchers',
            'misuse', 'processes', 'profile_training',
            'recipes', 'reproduce', 'resume', 'visualize_attention',
        )
    ),
]  # fmt: skip
SHOWN = (
    'torch', 'torchvision', 'numpy', 'mmcv', 'mmcv-lite', 'mmengine',
    'mmpretrain', 'mmaction2', 'mmdet', 'onedl-mmengine', 'onedl-mmcv',
    'onedl-mmpretrain', 'onedl-mmdetection',
)  # fmt: skip
KINDS = {'mmcv': 'compiled', 'mmcv-lite': 'lite', 'onedl-mmcv': 'onedl'}
nox.options.sessions = ['tests']
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


@nox.session(venv_backend='none')
@nox.parametrize('name', [nox.param(name, id=name) for name in SETS])
def tests(session, name):
    """Run the test suite with one set of versions."""
    version, packages = SETS[name]
    folder = ROOT / '.nox' / name
    python, installed = folder / 'bin/python', folder / 'installed'
    if not installed.exists():
        base = f'python{version}'
        session.run(base, '-m', 'venv', str(folder), external=True)
        pip = str(python), '-m', 'pip', 'install'
        beside = FORKS.get(name, COMMON)
        session.run(*pip, *packages, *beside, external=True)
        if name in FORKS:
            session.run(*pip, '--no-deps', '-e', '.', external=True)
        installed.touch()
    part, options = 'all', session.posargs or ['-n', '2']
    if options == ['core']:
        part, options = 'core', [*CORE, '-n', '2']
    report = folder / 'junit.xml'
    command = [
        str(python), '-m', 'pytest', '--dist', 'loadfile',
        f'--junitxml={report}', *options,
    ]  # fmt: skip
    report.unlink(missing_ok=True)
    commit = commit_of_checkout()
    session.run(
        *command,
        env=dict(OMP_NUM_THREADS='1'),
        external=True,
        success_codes=[0, 1],
    )
    if part == 'core' or not session.posargs:
        record(name, python, report, part, commit)
        write_table()
    failed = summarise(report)['failed']
    if failed:
        session.error(f'{len(failed)} failed with {name}')


@nox.session(venv_backend='none')
def mmcv(session):
    """Compile mmcv against the torch of the set ``newest``: half an hour.

    Its setup asks for C++14 or 17, torch's headers for C++20.
    """
    python = str(ROOT / '.nox/newest/bin/python')
    if not Path(python).exists():
        session.error("run nox -s 'tests(newest)' first")
    pip = python, '-m', 'pip'
    folder = WHEELS / 'mmcv-2.1.0'
    session.run(*pip, 'install', 'wheel', 'ninja', 'psutil', external=True)
    session.run(
        *pip, 'download', '--no-deps', '--no-binary=mmcv',
        '--no-build-isolation', '-d', str(WHEELS), 'mmcv==2.1.0',
        external=True,
    )  # fmt: skip
    shutil.unpack_archive(f'{folder}.tar.gz', WHEELS, filter='data')
    setup = folder / 'setup.py'
    setup.write_text(re.sub('c[+][+]1[47]', 'c++20', setup.read_text()))
    session.run(
        *pip, 'wheel', '--no-deps', '--no-build-isolation',
        '-w', str(WHEELS), str(folder), external=True,
    )  # fmt: skip


@nox.session(venv_backend='none')
def table(session):
    """Write the table of docs/install.md from docs/versions/."""
    write_table()


def summarise(report: Path) -> dict:
    """Counts of a JUnit report, and what failed."""
    cases = list(ElementTree.parse(report).iter('testcase'))
    failed = [
        f'{case.get("classname")}.{case.get("name")}'
        for case in cases
        if case.find('failure') is not None or case.find('error') is not None
    ]
    skipped = sum(case.find('skipped') is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return dict(passed=passed, skipped=skipped, failed=failed)


def commit_of_checkout() -> str:
    """The commit, with a + where files differ from it, other than results."""

    def git(*args):
        return subprocess.check_output(['git', *args], text=True, cwd=ROOT)

    changes = git('status', '--porcelain', '--', '.', ':!docs/versions',
                  ':!docs/install.md', ':!.nox')  # fmt: skip
    return git('rev-parse', '--short', 'HEAD').strip() + '+' * bool(changes)


def record(
    name: str, python: Path, report: Path, part: str, commit: str
) -> None:
    """Write docs/versions/NAME.json."""
    script = (
        'import json, platform, importlib.metadata as m; '
        f'names = {SHOWN!r}; '
        'found = {d.metadata["Name"].lower(): d.version '
        'for d in m.distributions()}; '
        'print(json.dumps(dict(python=platform.python_version(), '
        '**{n: found[n] for n in names if n in found})))'
    )
    versions = subprocess.check_output([str(python), '-c', script], text=True)
    RESULTS.mkdir(exist_ok=True)
    content = dict(
        versions=json.loads(versions),
        commit=commit,
        date=str(date.today()),
        part=part,
        **summarise(report),
    )
    path = RESULTS / f'{name}.json'
    path.write_text(json.dumps(content, indent=1) + '\n')


def write_table() -> None:
    """Replace the table between the two marks of docs/install.md."""
    rows = [
        '| Python | torch, torchvision | numpy | mmcv | tests | passed '
        '| skipped | failed | commit |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for name in SETS:
        path = RESULTS / f'{name}.json'
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        found = result['versions']
        mmcv = next(
            f'{found[package]} {kind}'
            for package, kind in KINDS.items()
            if package in found
        )
        cells = (
            found['python'],
            f'{found["torch"]}, {found["torchvision"]}',
            found['numpy'],
            mmcv,
            result['part'],
            f'{result["passed"]:,}',
            result['skipped'],
            len(result['failed']),
            result['commit'],
        )
        rows.append(f'| {" | ".join(map(str, cells))} |')
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = '\n'.join(rows)
    PAGE.write_text(f'{before}{BEGIN}\n\n{rows}\n\n{END}{after}')
