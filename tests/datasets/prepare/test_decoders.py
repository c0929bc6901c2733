"""Processes that decode, and what becomes of killed ones."""

import os
import signal
import time

import pytest


@pytest.fixture
def needs(tmp_path, write_jpeg):
    """Whole pictures."""
    paths = [tmp_path / f'{number}.jpg' for number in range(4)]
    for path in paths:
        write_jpeg(path)
    return {str(path): dict(data={}) for path in paths}


def test_processes_that_were_killed_while_idle_are_replaced(scripts, needs):
    with scripts('decoders').DecoderPool(2) as pool:
        assert list(pool.reasons(needs)) == [(path, None) for path in needs]
        killed = set(pool.pool._processes)
        for process in killed:
            os.kill(process, signal.SIGKILL)
        # until the pool knows, which is what the next call finds
        end = time.monotonic() + 30
        while not pool.pool._broken:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert list(pool.reasons(needs)) == [(path, None) for path in needs]
        assert pool.single is None  # which takes them one by one
        assert len(pool.pool._processes) == 2
        assert not killed & set(pool.pool._processes)
