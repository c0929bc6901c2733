"""Two configs compared as text; tests/tools/test_resume.py does in a run."""

import logging

import pytest
from mmengine.config import Config

from cgnl_mm.training.config_changes import warn_of_changes


class Resumed:
    """What of a runner is read."""

    logger = logging.getLogger('resumed')

    def __init__(self, **cfg):
        self.cfg = Config(cfg)


@pytest.fixture
def warning(caplog):
    """Return what is said of a checkpoint's text and a config of now."""

    def get(then, **now):
        caplog.clear()
        warn_of_changes(Resumed(**now), {'meta': {'cfg': then}})
        return caplog.text

    return get


def test_changed_new_and_gone_are_named(warning):
    same = dict(a=dict(b=1), resume=True, load_from='x', work_dir='y')
    then = Config({**same, 'resume': False, 'work_dir': 'z'}).pretty_text
    assert not warning(then, **same)
    said = warning(then, a=dict(b=2, c='new'))
    assert '-a = dict(b=1)\n' in said and "+a = dict(b=2, c='new')" in said
    said = warning('a = dict(b=1)\nold = [1]', a=dict(b=1))
    assert '\n-old = [1]' in said and '-a' not in said
    many = {f'k{i:02}': i for i in range(100)}
    assert warning('', **many).endswith('+k38 = 38\nand 62 more lines\n')


def test_strangers_text_is_data_in_short_lines(warning, tmp_path):
    victim = tmp_path / 'file'
    victim.touch()
    forged = 'x\x1b[2J\r2026/11/24 - mmengine - INFO - fine' + '1' * 300
    remove = f'__import__("os").remove({str(victim)!r})'
    said = warning(f'a = {remove}\nb = {forged}', a=1)
    assert victim.exists()
    assert '\x1b' not in said and '\r' not in said
    assert max(map(len, said.splitlines())) < 200


@pytest.mark.parametrize('then', [None, 3, b'a = 1'])
def test_checkpoint_without_a_config_is_let_pass(then, warning, caplog):
    assert not warning(then, a=1)
    warn_of_changes(Resumed(a=1), {'meta': {}})
    warn_of_changes(Resumed(a=1), {})
    assert not caplog.text
