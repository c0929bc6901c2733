"""The scripts as modules: they run in the process of the tests."""

import re
import runpy
from pathlib import Path

import pytest
from miniatures import contents

from cgnl_mm.errors import SetupError

SCRIPTS = Path(__file__).parents[3] / 'tools/data'


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Run a script of tools/data in ``tmp_path``; return what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(script, *options):
        capsys.readouterr()
        runpy.run_path(str(SCRIPTS / f'{script}.py'))['main'](options)
        return capsys.readouterr().out

    return run


@pytest.fixture
def samples(build):
    """What mmaction2 reads of a list: a list of (path, label)."""

    def samples(path, videos, **settings):
        of = build(
            'mmaction', 'VideoDataset', '', ann_file=str(path), pipeline=[],
            data_prefix=dict(video=videos), **settings,
        )  # fmt: skip
        infos = [of.get_data_info(i) for i in range(len(of))]
        return [(info['filename'], info['label']) for info in infos]

    return samples


@pytest.fixture
def refuses():
    """Check that a broken input ends a script, and nothing is written.

    ``old`` is what stands in the file (or '' for its end), ``new`` what takes
    its place; None: the file is not there.
    """

    def check(run, name, old, new, said):
        (path,) = Path().rglob(name)
        if new is None:
            path.rename('elsewhere')
        else:
            content = path.read_bytes()
            start = content.index(old.encode()) if old else len(content)
            end = content[start + len(old.encode()) :]
            path.write_bytes(content[:start] + new.encode() + end)
        before = contents()
        with pytest.raises(SetupError, match=re.escape(said)):
            run()
        assert contents() == before

    return check
