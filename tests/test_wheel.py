"""Check that the wheel is complete and works away from the checkout.

Its requirements admit the versions that constraints.txt pins. The tests that
install it into an environment are nightly.
"""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import cgnl_mm  # noqa: F401  the checkpoint is looked into here

ROOT = Path(__file__).parents[1]
# what a build reads
SOURCES = (
    'LICENSE',
    'MANIFEST.in',
    'README.md',
    'cgnl_mm',
    'configs',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
    'tools',
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
    return run(
        python, '-m', 'pip', '--disable-pip-version-check', *args,
        '--no-deps', '--no-index', '--no-build-isolation', cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope='module')
def build(warm):
    """``build(source, out)``: the path of the wheel that pip makes."""

    def run_pip(source, out):
        pip(warm, 'wheel', source, '--wheel-dir', out, cwd=out)
        (path,) = out.glob('cgnl_mm-*-py3-none-any.whl')
        return path

    return run_pip


def contents(wheel):
    """{name: content} of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def install(environment, *args, cwd):
    """Install whatever the shared folders hold already."""
    pip(environment, 'install', '--ignore-installed', *args, cwd=cwd)


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy, since builds leave files behind."""
    folder = tmp_path_factory.mktemp('checkout')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    # what a user's checkout holds besides
    for name in ('cgnl_mm', 'configs', 'tools/data'):
        (folder / name / '__pycache__').mkdir()
        (folder / name / '__pycache__/left.cpython-311.pyc').touch()
    return folder


@pytest.fixture(scope='module')
def expected(checkout):
    """{name: content} of all that must be in a wheel, licence apart."""
    files = {
        file.relative_to(checkout): file for file in checkout.rglob('*.py')
    }
    files = {
        str(name): file
        for name, file in files.items()
        if name.parts[0] == 'cgnl_mm' and '.mim' not in name.parts
    }
    mim = [checkout / 'model-index.yml']
    mim += [*checkout.glob('configs/**/*'), *checkout.glob('tools/**/*')]
    for file in mim:
        if file.is_file() and file.suffix != '.pyc':
            files[f'cgnl_mm/.mim/{file.relative_to(checkout)}'] = file
    return {name: file.read_bytes() for name, file in files.items()}


@pytest.fixture(scope='module')
def wheel(build, checkout, tmp_path_factory):
    return build(checkout, tmp_path_factory.mktemp('wheel'))


@pytest.fixture
def environment(warm, tmp_path):
    """Python of a new environment that sees the packages of this one.

    Their folders, but not what is installed there as editable: such a
    package is a .pth file, which counts in an environment's own folder only.
    """
    folder = tmp_path / 'environment'
    run(warm, '-m', 'venv', '--without-pip', folder, cwd=tmp_path)
    (own,) = folder.glob('lib/python*/site-packages')
    shared = [
        path
        for path in sys.path
        if Path(path).name in ('site-packages', 'dist-packages')
    ]
    (own / 'shared.pth').write_text('\n'.join(shared))
    return folder / 'bin/python'


def package_of(python, cwd):
    """Folder that ``import cgnl_mm`` finds."""
    code = (
        'from importlib.util import find_spec\n'
        'print(find_spec("cgnl_mm").submodule_search_locations[0])'
    )
    return Path(run(python, '-c', code, cwd=cwd).strip())


def test_wheel_holds_modules_configs_and_tools_and_nothing_else(
    wheel, expected
):
    packed = contents(wheel)
    info = [name for name in packed if '.dist-info/' in name]
    assert any(name.endswith('LICENSE') for name in info)
    packed = {k: v for k, v in packed.items() if k not in info}
    assert packed.keys() == expected.keys()
    assert packed == expected
    for name in (
        'ops/attention.py',
        '.mim/configs/_base_/recipe_r18_digits.py',
        '.mim/tools/data/minikinetics.py',
        '.mim/tools/dist_train.sh',
    ):
        assert f'cgnl_mm/{name}' in packed


@pytest.mark.nightly
def test_sdist_builds_the_same_wheel(build, checkout, wheel, tmp_path, warm):
    code = (
        'from setuptools import build_meta\n'
        f'build_meta.build_sdist({str(tmp_path)!r})'
    )
    run(warm, '-c', code, cwd=checkout)
    (sdist,) = tmp_path.glob('*.tar.gz')
    assert contents(build(sdist, tmp_path)) == contents(wheel)


@pytest.mark.nightly
def test_wheel_leaves_out_what_an_earlier_build_left(
    build, checkout, wheel, tmp_path
):
    """As pip, setuptools builds in the checkout's own build/."""
    left = checkout / 'build/lib/cgnl_mm/.mim/configs/renamed.py'
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert contents(build(checkout, tmp_path)) == contents(wheel)


@pytest.mark.nightly
def test_installed_wheel_trains_from_another_folder(
    wheel, environment, tmp_path
):
    install(environment, wheel, cwd=tmp_path)
    package = package_of(environment, tmp_path)
    assert package.is_relative_to(environment.parents[1])
    mim = package / '.mim'
    printed = run(
        environment, mim / 'tools/train.py',
        mim / 'configs/r18_cgnl_digits.py', '--work-dir', 'run',
        '--cfg-options', 'train_cfg.max_epochs=1',
        'param_scheduler.total_steps=1',
        *(
            f'{loader}_dataloader.{option}'
            for loader in ('train', 'val')
            for option in (
                'dataset.indices=32',
                'num_workers=0',
                'persistent_workers=False',
            )
        ),
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
    mode, checkout, expected, environment, tmp_path
):
    install(
        environment, '--config-settings', f'editable_mode={mode}',
        '--editable', checkout, cwd=tmp_path,
    )  # fmt: skip
    package = package_of(environment, tmp_path)
    assert package.is_relative_to(checkout)
    for name, content in expected.items():
        assert (package.parent / name).read_bytes() == content
    # a change of a config needs no second installation
    config = checkout / 'configs/r18_digits.py'
    before = config.read_bytes()
    config.write_bytes(before + b'# changed\n')
    installed = package / '.mim/configs/r18_digits.py'
    try:
        assert installed.read_bytes() == config.read_bytes()
    finally:
        config.write_bytes(before)


@pytest.mark.nightly
def test_wheel_of_an_editable_checkout(
    build, checkout, wheel, environment, tmp_path
):
    """The links of an editable installation stay out of it."""
    install(environment, '--editable', checkout, cwd=tmp_path)
    assert (checkout / 'cgnl_mm/.mim/configs').is_symlink()
    assert contents(build(checkout, tmp_path)) == contents(wheel)


# ---- requirements


@pytest.fixture(scope='module')
def requirements(wheel):
    """{extra or '': its requirements}, from the metadata of the wheel"""
    (text,) = [
        content
        for name, content in contents(wheel).items()
        if name.endswith('.dist-info/METADATA')
    ]
    metadata = email.message_from_bytes(text)
    found = {extra: [] for extra in metadata.get_all('Provides-Extra')}
    found[''] = []
    for text in metadata.get_all('Requires-Dist'):
        requirement = Requirement(text)
        for extra in found:
            marker = requirement.marker
            if (marker is None) == (extra == '') and (
                marker is None or marker.evaluate({'extra': extra})
            ):
                found[extra].append(requirement)
    return found


def constraints():
    """{canonical name: pinned version}"""
    lines = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if line and line[0] != '#')
    return {name.lower().replace('_', '-'): v for name, v in pins.items()}


def test_mmcv_is_never_pulled_in(requirements):
    """pip would write it over the user's compiled mmcv, or the reverse."""
    for extra, found in requirements.items():
        names = {requirement.name for requirement in found}
        assert 'mmcv' not in names
        assert ('mmcv-lite' in names) == (extra == 'lite')


def test_all_is_the_three_hosts(requirements):
    union = {
        str(requirement.name)
        for extra in ('pretrain', 'action', 'det')
        for requirement in requirements[extra]
    }
    assert union == {x.name for x in requirements['all']}
    assert {'mmpretrain', 'mmaction2', 'mmdet'} <= union


def test_ranges_admit_the_tested_set(requirements):
    pins = constraints()
    for found in requirements.values():
        for requirement in found:
            assert pins[requirement.name] in requirement.specifier


def test_tested_set_is_the_agreed_one():
    pins = constraints()
    assert {
        'torch': '2.14.1',
        'torchvision': '0.29.1',
        'mmengine': '0.10.7',
        'mmcv-lite': '2.1.0',
        'mmpretrain': '1.2.0',
        'mmdet': '3.3.0',
        'mmaction2': '1.2.0',
        'mmsegmentation': '1.2.2',
    }.items() <= pins.items()
    assert int(pins['setuptools'].split('.')[0]) < 81
    # both land in one folder
    assert pins['opencv-python'] == pins['opencv-contrib-python']
