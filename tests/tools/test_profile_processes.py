"""profile_processes.py: real processes, a real exchange."""

import re

import pytest


def test_a_distributed_step(run_tool, tmp_path):
    options = '--network', 'R-50', '--quick', '--steps', '1'
    done = run_tool('profile_processes.py', *options, cwd=tmp_path)
    rows = re.findall(r'^\| ([^|]+) \| (\d+) \|$', done.stdout, re.M)
    found = {name: int(ms) for name, ms in rows}
    own = found['step of its own']
    (exchange,) = (ms for k, ms in found.items() if k.startswith('all-reduce'))
    assert found['predicted, all of it hidden'] == max(own, exchange)
    assert abs(found['predicted, none of it hidden'] - own - exchange) <= 1
    # R-50's 25.6 million numbers, a block's 1.6 million: 27.2 million
    (size,) = re.findall(r'all-reduce of ([\d.]+) MB', done.stdout)
    assert 4 * 27.1 < float(size) < 4 * 27.3


@pytest.mark.parametrize(
    'options, message',
    [
        (['--network', 'VGG'], "--network 'VGG': known are R-50, I3D-R50"),
        (['--processes', '1'], '--processes must be at least 2, got 1'),
    ],
)
def test_wrong_options(run_tool, options, message, tmp_path):
    done = run_tool('profile_processes.py', *options, cwd=tmp_path, status=2)
    assert message in done.stderr
