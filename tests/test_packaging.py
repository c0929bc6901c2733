"""The Makefile."""

import os
import shutil
import subprocess
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
