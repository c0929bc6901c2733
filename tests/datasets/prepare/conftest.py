"""The scripts as modules: they run in the process of the tests."""

import os
import resource
import runpy
from pathlib import Path

import numpy as np
import pytest

from cgnl_mm.errors import SetupError

SCRIPTS = Path(__file__).parents[3] / 'tools/data'


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    """Run a script of tools/data in ``tmp_path``; return what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name, *options):
        script = runpy.run_path(str(SCRIPTS / f'{name}.py'))
        capsys.readouterr()
        script['main']([*map(str, options), '--quiet'])
        return capsys.readouterr().out

    return run


@pytest.fixture
def write_jpeg():
    """A function that writes a small picture, noise of a fixed seed."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, 'JPEG')

    return write


@pytest.fixture
def truncate():
    """A function that cuts a file in half, as a broken download does."""

    def cut(path):
        os.truncate(path, path.stat().st_size // 2)

    return cut


@pytest.fixture
def unwritable():
    """A function that checks that a disk without room leaves all as it was.

    The operating system refuses to write more than one byte, so this is the
    error of a full disk, at the place where it happens.
    """

    def check(run, folder):
        before = {f: f.read_bytes() for f in folder.rglob('*') if f.is_file()}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        try:
            with pytest.raises(SetupError, match='File too large'):
                run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        after = {f: f.read_bytes() for f in folder.rglob('*') if f.is_file()}
        assert after == before
        assert before

    return check
