"""Two configs compared as text; tests/tools/test_resume.py does in a run."""

import logging

import pytest
from mmengine.config import Config

from cgnl_mm.training.config_changes import settings, warn_of_changes


class Resumed:
    """What of a runner is read."""

    logger = logging.getLogger('resumed')

    def __init__(self, **cfg):
        self.cfg = Config(cfg)


def warning(then, caplog, **now):
    caplog.clear()
    warn_of_changes(Resumed(**now), {'meta': {'cfg': then}})
    return caplog.text


def test_keys_are_those_of_cfg_options():
    cfg = Config(
        dict(
            model=dict(plugins=[dict(type='CGNL2d', groups=8), dict()]),
            size=(1, 2),
            crops={'a b': 1, 'c': [], 3: None},
            name="it's",
        )
    )
    assert settings(cfg.pretty_text) == {
        'model.plugins.0.type': "'CGNL2d'",
        'model.plugins.0.groups': '8',
        'model.plugins.1': 'dict()',
        'size.0': '1',
        'size.1': '2',
        'crops.a b': '1',
        'crops.c': '[]',
        'crops.3': 'None',
        'name': '"it\'s"',
    }


def test_nothing_is_executed(tmp_path):
    victim = tmp_path / 'file'
    victim.touch()
    text = f"a = __import__('os').remove({str(victim)!r})\nimport os\n"
    assert settings(text)['a'].startswith("__import__('os').remove")
    assert settings('a = dict(**b)') == {'a': 'dict(**b)'}
    assert settings('a = {**b}') == {'a': '{**b}'}
    assert settings('a.b = 1') == {}
    assert victim.exists()


def test_changed_new_and_gone_are_named(caplog):
    same = dict(a=dict(b=1), resume=True, load_from='x', work_dir='y')
    then = Config({**same, 'resume': False, 'work_dir': 'z'}).pretty_text
    assert not warning(then, caplog, **same)
    said = warning(then, caplog, a=dict(b=2, c='new'))
    assert '  a.b: 1 -> 2\n' in said and "  a.c: not set -> 'new'" in said
    said = warning('a = dict(b=1, old=[1])', caplog, a=dict(b=1))
    assert '  a.old.0: 1 -> not set' in said and 'a.b' not in said


def test_long_lists_are_cut(caplog):
    said = warning('a = 1', caplog, **{f'k{i:02}': i for i in range(30)})
    assert '  k18: not set -> 18\n  and 11 more' in said


def test_strangers_text_stays_one_short_line(caplog):
    forged = 'x\x1b[2J\n2026/11/24 - mmengine - INFO - fine'
    said = warning(f'a = {{{forged!r}: {"1" * 300!r}}}', caplog, a=1)
    assert '\x1b' not in said and '\n2026' not in said
    assert max(map(len, said.splitlines())) < 300


@pytest.mark.parametrize(
    'then',
    [None, 'a = (', '\0', 3]
    + [f'a = {"-" * 20_000}1', f'a = b{".c" * 20_000}', f'a = {"[" * 300}'],
    ids=lambda text: repr(text)[:9],
)
def test_foreign_checkpoint_is_let_pass(then, caplog):
    assert not warning(then, caplog, a=1)
    warn_of_changes(Resumed(a=1), {'meta': {}})
    warn_of_changes(Resumed(a=1), {})
    assert not caplog.text
