"""setup.py, constraints and Makefile agree with each other."""

import email
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def requirements(tmp_path_factory):
    """{extra or '': its requirements}, from the metadata of a build"""
    source = tmp_path_factory.mktemp('source')
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / 'cgnl_mm',
        source / 'cgnl_mm',
        ignore=shutil.ignore_patterns('__pycache__', '.mim'),
    )
    done = subprocess.run(
        [sys.executable, '-c', 'from setuptools import build_meta\n'
         'build_meta.prepare_metadata_for_build_wheel(".")'],
        cwd=source,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = source.glob('*.dist-info/METADATA')
    metadata = email.message_from_bytes(path.read_bytes())
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


# ---- make


def make(*args):
    """Run make in the repository, in an environment of its own."""
    if shutil.which('make') is None:
        pytest.skip('needs make')
    env = {k: v for k, v in os.environ.items() if k != 'MAKEFLAGS'}
    return subprocess.run(
        ['make', *map(str, args)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )


def test_help_names_every_command():
    done = make('help')
    assert done.returncode == 0
    for command in ('demo', 'test', 'lint', 'clean'):
        assert f'make {command}' in done.stdout


def test_installed_once(tmp_path):
    """With the stamp there, no target calls pip, online or not."""
    plan = make('-n', 'test', f'VENV={tmp_path}').stdout
    assert 'install.sh' in plan
    (stamp,) = [
        line.split()[-1] for line in plan.splitlines() if 'touch' in line
    ]
    Path(stamp).touch()
    for target in ('demo', 'test', 'lint'):
        plan = make('-n', target, f'VENV={tmp_path}').stdout
        assert 'install.sh' not in plan
        assert f'{tmp_path}/bin/python' in plan
