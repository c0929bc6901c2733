"""The Makefile."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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


@pytest.fixture
def interpreter(tmp_path):
    """Write a program that answers as some Python would."""

    def write(script):
        path = tmp_path / 'python3'
        path.write_text('#!/bin/sh\n' + script)
        path.chmod(0o755)
        return path

    return write


def test_help_names_every_command():
    done = make('help')
    assert done.returncode == 0
    for command in ('demo', 'test', 'lint', 'clean'):
        assert f'make {command}' in done.stdout


def test_old_python_is_refused(tmp_path, interpreter):
    old = interpreter(
        'case $1 in --version) echo Python 3.8.2;; *) exit 1;; esac\n'
    )
    done = make('lint', f'PYTHON={old}', f'VENV={tmp_path}/venv')
    assert done.returncode != 0
    assert 'error: Python 3.8.2 is too old' in done.stderr


def test_python_without_venv_says_what_to_install(tmp_path, interpreter):
    """As on Debian without python3-venv."""
    bare = interpreter(
        f'[ "$2" = venv ] && exit 1\nexec {sys.executable} "$@"\n'
    )
    done = make('lint', f'PYTHON={bare}', f'VENV={tmp_path}/venv')
    assert done.returncode != 0
    assert 'apt install python3-venv' in done.stderr


def test_missing_python(tmp_path):
    done = make('lint', 'PYTHON=python9', f'VENV={tmp_path}/venv')
    assert done.returncode != 0
    assert 'error: python9 not found' in done.stderr


@pytest.mark.parametrize(
    'compiled, extras', [(True, 'all,test'), (False, 'all,lite,test')]
)
def test_compiled_mmcv_is_kept(tmp_path, compiled, extras):
    """An environment with mmcv gets no mmcv-lite over it.

    Its Python notes what pip is asked to install, and has mmcv or not; pip
    itself would take minutes.
    """
    python = tmp_path / 'bin/python'
    python.parent.mkdir()
    python.write_text(
        '#!/bin/sh\n'
        'case "$*" in\n'
        f'*"pip show"*" mmcv") exit {0 if compiled else 1};;\n'
        f'*"pip install"*) echo "$@" >{tmp_path}/asked;;\n'
        f'*) exec {sys.executable} "$@";;\n'
        'esac\n'
    )
    python.chmod(0o755)
    make('lint', f'VENV={tmp_path}')
    asked = (tmp_path / 'asked').read_text()
    assert f'--editable .[{extras}]' in asked
    constraints = 'requirements/constraints.txt'
    if sys.version_info < (3, 11):
        constraints = f'{tmp_path}/core.txt'
    assert f'--constraint {constraints}' in asked


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
