"""A bad setting of a hook ends a training in one line."""

import pytest

from cgnl_mm import training
from cgnl_mm.errors import ConfigError


@pytest.mark.parametrize(
    'hook, settings, said',
    [
        ('CGNLStatisticsHook', dict(interval=0), 'interval .* got 0'),
        ('CGNLStatisticsHook', dict(maps=-1), 'maps .* got -1'),
        ('NumericsHook', dict(patience=1.5), 'patience .* got 1.5'),
        ('UnreadableDataHook', dict(limit=2), 'limit .* got 2'),
        ('UnreadableDataHook', dict(limit='some'), "limit .* got 'some'"),
    ],
)
def test_bad_value_is_named(hook, settings, said):
    with pytest.raises(ConfigError, match=f'^{hook}: {said}'):
        getattr(training, hook)(**settings)
