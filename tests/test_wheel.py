"""Check that the wheel is complete and works away from the checkout.

Its requirements admit the versions that constraints.txt pins. The tests that
install it into an environment are nightly.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import cgnl_mm  # noqa: F401  torch.load then accepts MMEngine's checkpoints

ROOT = Path(__file__).parents[1]
# A build reads these.
FOLDERS = ('cgnl_mm', 'configs', 'tools')
FILES = (
    *('DESCRIPTION.md', 'LICENSE', 'MANIFEST.in', 'model-index.yml'),
    *('pyproject.toml', 'setup.py'),
)


def run(*command, cwd):
    """Run a command that knows nothing of this checkout."""
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def pip(python, *args, cwd):
    run(
        python, '-m', 'pip', '--disable-pip-version-check', *args,
        '--no-deps', '--no-index', '--no-build-isolation', cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope='module')
def build(warm):
    """``build(source, out)`` returns the wheel that pip makes."""

    def run_pip(source, out):
        out.mkdir(exist_ok=True)
        pip(warm, 'wheel', source, '--wheel-dir', out, cwd=out)
        (path,) = out.glob('cgnl_mm-*-py3-none-any.whl')
        return path

    return run_pip


def contents(wheel):
    """Return {name: content} of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """Make a copy, since builds leave files behind."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        # A user's checkout holds such files besides.
        (folder / name / '__pycache__').mkdir()
        (folder / name / '__pycache__/left.cpython-311.pyc').touch()
    return folder


@pytest.fixture(scope='module')
def expected(checkout):
    """Return {name: content} of all that a wheel must hold but the licence."""
    package = {
        f'cgnl_mm/{file.relative_to(checkout / "cgnl_mm")}': file
        for file in checkout.glob('cgnl_mm/**/*.py')
    }
    for name in ('cgnl_mm/py.typed', 'cgnl_mm/visualization/page.html'):
        package[name] = checkout / name
    mim = [checkout / 'model-index.yml']
    mim += [*checkout.glob('configs/**/*'), *checkout.glob('tools/**/*')]
    carried = {
        f'cgnl_mm/.mim/{file.relative_to(checkout)}': file
        for file in mim
        if file.is_file() and file.suffix != '.pyc'
    }
    files = {**package, **carried}
    return {name: file.read_bytes() for name, file in files.items()}


@pytest.fixture(scope='module')
def wheel(build, checkout, expected, tmp_path_factory):
    return build(checkout, tmp_path_factory.mktemp('wheel'))


@pytest.fixture
def environment(warm, tmp_path):
    """Make a new environment that sees the packages of this one.

    It sees their folders, but not what is installed there as editable: such a
    package is a .pth file, which counts in an environment's own folder only.
    """
    folder = tmp_path / 'environment'
    run(warm, '-m', 'venv', '--without-pip', folder, cwd=tmp_path)
    (own,) = folder.glob('lib/python*/site-packages')
    shared = [path for path in sys.path if path.endswith('-packages')]
    (own / 'shared.pth').write_text('\n'.join(shared))
    return folder / 'bin/python'


def install(environment, *args, cwd):
    """Install, whatever the shared folders hold; return the package."""
    pip(environment, 'install', '--ignore-installed', *args, cwd=cwd)
    code = 'import importlib.util as u; print(u.find_spec("cgnl_mm").origin)'
    return Path(run(environment, '-c', code, cwd=cwd).strip()).parent


def test_wheel_holds_modules_configs_and_tools_and_nothing_else(
    wheel, expected
):
    packed = contents(wheel)
    info = [name for name in packed if '.dist-info/' in name]
    assert any(name.endswith('LICENSE') for name in info)
    assert {k: v for k, v in packed.items() if k not in info} == expected
    for name in (
        'ops/__init__.py',
        '.mim/configs/_base_/recipe_r18_digits.py',
        '.mim/tools/data/minikinetics.py',
        '.mim/tools/dist_train.sh',
    ):
        assert f'cgnl_mm/{name}' in packed


@pytest.mark.nightly
def test_every_checkout_builds_the_same_wheel(
    build, checkout, wheel, tmp_path, warm
):
    packed = contents(wheel)
    out = tmp_path / 'sdist'
    code = f'import setuptools.build_meta as b; b.build_sdist({str(out)!r})'
    run(warm, '-c', code, cwd=checkout)
    (sdist,) = out.glob('*.tar.gz')
    assert contents(build(sdist, tmp_path / 'from_sdist')) == packed
    # As pip, setuptools builds in the checkout's own build/.
    left = checkout / 'build/lib/cgnl_mm/.mim/configs/renamed.py'
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert contents(build(checkout, tmp_path / 'again')) == packed


@pytest.mark.nightly
@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='needs a checkout')
def test_sdist_holds_all_but_the_dotfiles(tmp_path, warm):
    copy, out = tmp_path / 'copy', tmp_path / 'out'
    run('git', 'checkout-index', '--all', f'--prefix={copy}/', cwd=ROOT)
    files = [file.relative_to(copy) for file in copy.rglob('*')]
    known = {str(x) for x in files if x.parts[0][0] != '.'}
    code = f'import setuptools.build_meta as b; b.build_sdist({str(out)!r})'
    run(warm, '-c', code, cwd=copy)
    with tarfile.open(next(out.glob('*.tar.gz'))) as archive:
        packed = {name.partition('/')[2] for name in archive.getnames()}
    assert known <= packed


LOADER = ('dataset.indices=32', 'num_workers=0', 'persistent_workers=False')


@pytest.mark.nightly
def test_installed_wheel_trains_from_another_folder(
    wheel, environment, tmp_path
):
    package = install(environment, wheel, cwd=tmp_path)
    assert package.is_relative_to(environment.parents[1])
    mim = package / '.mim'
    printed = run(
        environment, mim / 'tools/train.py',
        mim / 'configs/r18_cgnl_digits.py', '--work-dir', 'run',
        '--cfg-options', 'train_cfg.max_epochs=1',
        'param_scheduler.total_steps=1',
        *(f'train_dataloader.{option}' for option in LOADER),
        *(f'val_dataloader.{option}' for option in LOADER),
        cwd=tmp_path,
    )  # fmt: skip
    assert 'Epoch(train) [1][1/1]' in printed
    assert 'Epoch(val) [1][1/1]' in printed
    state = torch.load(tmp_path / 'run/epoch_1.pth')['state_dict']
    assert state['backbone.layer3.cgnl_0.norm.weight'].abs().max() > 0

    tool = mim / 'tools/data/minikinetics.py'
    assert '--videos' in run(environment, tool, '--help', cwd=tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize('mode', ['lenient', 'strict'])
def test_editable_install_has_configs_and_tools(
    mode, build, checkout, wheel, expected, environment, tmp_path
):
    package = install(
        environment, '--config-settings', f'editable_mode={mode}',
        '--editable', checkout, cwd=tmp_path,
    )  # fmt: skip
    assert package.is_relative_to(checkout)
    for name, content in expected.items():
        assert (package.parent / name).read_bytes() == content
    # A wheel leaves out the links of this installation.
    assert (checkout / 'cgnl_mm/.mim/configs').is_symlink()
    assert contents(build(checkout, tmp_path / 'wheel')) == contents(wheel)
    # A change of a config needs no second installation.
    name = 'configs/r18_digits.py'
    (checkout / name).write_bytes(b'changed')
    try:
        assert (package / '.mim' / name).read_bytes() == b'changed'
    finally:
        shutil.copy(ROOT / name, checkout / name)


# ---- requirements


@pytest.fixture(scope='module')
def requirements(wheel):
    """Return {extra or '': its requirements}, as the wheel's metadata say."""
    archive = zipfile.Path(wheel)
    (info,) = [x for x in archive.iterdir() if x.name.endswith('.dist-info')]
    metadata = PathDistribution(info)
    required = list(map(Requirement, metadata.requires))
    found = {'': [r for r in required if r.marker is None]}
    for extra in metadata.metadata.get_all('Provides-Extra'):
        found[extra] = [
            requirement
            for requirement in required
            if requirement.marker
            and requirement.marker.evaluate({'extra': extra})
        ]
    return found


def test_mmcv_is_never_pulled_in(requirements):
    """pip would write it over the user's compiled mmcv, or the reverse."""
    for extra, found in requirements.items():
        names = {requirement.name for requirement in found}
        assert 'mmcv' not in names
        assert ('mmcv-lite' in names) == (extra == 'lite')


def test_block_needs_pytorch_alone(requirements):
    assert [requirement.name for requirement in requirements['']] == ['torch']


def test_links_of_the_description_leave_the_package(wheel):
    (name,) = [x for x in contents(wheel) if x.endswith('/METADATA')]
    text = contents(wheel)[name].decode()
    _, *links = text.split('](')
    assert links and all(link.startswith('https://') for link in links)
    assert '<!--' not in text


def test_all_is_the_three_hosts_and_the_tables(requirements):
    names = {extra: {x.name for x in y} for extra, y in requirements.items()}
    parts = 'pretrain', 'action', 'det', 'analysis'
    assert names['all'] == set().union(*(names[extra] for extra in parts))
    assert {'mmpretrain', 'mmaction2', 'mmdet', 'pandas'} <= names['all']


def test_ranges_admit_the_tested_set(requirements):
    lines = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if line and line[0] != '#')
    pins = {name.lower().replace('_', '-'): v for name, v in pins.items()}
    for found in requirements.values():
        for requirement in found:
            assert pins[requirement.name] in requirement.specifier
    # Both land in one folder.
    assert pins['opencv-python'] == pins['opencv-contrib-python']
