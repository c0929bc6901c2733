"""The study of the first state: what it trains, writes and says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from cgnl_mm.errors import SetupError
from cgnl_mm.experiments import start

ROOT = Path(__file__).parents[2]


def test_default_learns_where_the_authors_start_does_not():
    """Without a block that mixes the frames, 50 % is what can be had."""
    found = {
        name: start.train(name, 'same', 0, steps=200)['accuracy']
        for name in ('weight 0.1', 'author')
    }
    assert found['weight 0.1'] > 70
    assert found['author'] < 60


def test_setting_that_is_not_there(tmp_path):
    with pytest.raises(SetupError, match="'nothing' finds none of no block"):
        start.run_study(tmp_path, re.compile('nothing'), 64, seeds=1, steps=1)


def test_page_shows_the_lines_of_the_committed_csv():
    page = (ROOT / 'docs/start.md').read_text('utf-8')
    frame = pd.read_csv(ROOT / 'docs/results/start.csv')
    assert set(frame.setting) == set(start.SETTINGS)
    for line in start.summarize(frame).to_numpy():
        assert f'| {" | ".join(line)} |' in page
