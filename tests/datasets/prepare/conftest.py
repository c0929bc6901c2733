"""The scripts as modules: they run in the process of the tests."""

import os
import resource
import runpy
from pathlib import Path

import pytest
from miniatures import FLOWS, contents

import cgnl_mm.datasets.mmaction  # noqa: F401  registers MiniKinetics
from cgnl_mm.errors import SetupError

SCRIPTS = Path(__file__).parents[3] / 'tools/data'


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Write a miniature to ``tmp_path``; return the script as a function.

    The function takes more options and returns what the script prints.
    """
    monkeypatch.chdir(tmp_path)

    def start(flow, make=None):
        (make or FLOWS[flow].make)()
        script = FLOWS[flow].script

        def run(*more, options=FLOWS[flow].options):
            main = runpy.run_path(str(SCRIPTS / f'{script}.py'))['main']
            capsys.readouterr()
            main([*options.split(), *map(str, more), '--quiet'])
            return capsys.readouterr().out

        return run

    return start


@pytest.fixture
def samples(build):
    """What the host reads of a flow: a list of (path, label) a split."""

    def samples(flow, root=None):
        _, _, _, host, name, default, reads = FLOWS[flow]
        found = []
        for settings, _ in reads:
            of = build(host, name, root or default, pipeline=[], **settings)
            infos = [of.get_data_info(i) for i in range(len(of))]
            found.append([(path(info), label(info)) for info in infos])
        return found

    return samples


def path(info):
    return info.get('img_path') or info['filename']


def label(info):
    if 'instances' in info:
        return [box['bbox_label'] for box in info['instances']]
    return info.get('gt_label', info.get('label'))


@pytest.fixture
def truncate():
    """A function that cuts a file in half, as a broken download does."""

    def cut(path):
        os.truncate(path, os.path.getsize(path) // 2)

    return cut


@pytest.fixture
def unwritable():
    """A function that checks that a disk without room leaves all as it was.

    The operating system refuses to write more than one byte, so this is the
    error of a full disk, at the place where it happens.
    """

    def check(run):
        before = {p: x for p, x in contents().items() if x}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        try:
            with pytest.raises(SetupError, match='File too large'):
                run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {p: x for p, x in contents().items() if x} == before

    return check
