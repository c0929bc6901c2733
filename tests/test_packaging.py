"""Check that the Makefile installs the tested versions once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
def test_installed_once(tmp_path):
    """With the stamp there, no target calls pip, online or not."""

    def plan(target):
        command = ['make', '-n', target, f'VENV={tmp_path}']
        env = {k: v for k, v in os.environ.items() if k != 'MAKEFLAGS'}
        return subprocess.check_output(command, cwd=ROOT, env=env, text=True)

    assert "EXTRAS='action' " in plan('demo')
    first = plan('test')
    assert "EXTRAS='all,test' " in first and 'install.sh' in first
    (stamp,) = [x.split()[-1] for x in first.splitlines() if 'touch' in x]
    Path(stamp).touch()
    for target in ('demo', 'test', 'lint'):
        assert 'install.sh' not in plan(target)
        assert f'{tmp_path}/bin/python' in plan(target)
