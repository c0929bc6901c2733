"""The study of the first state: what it trains, writes and says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from cgnl_mm.errors import SetupError
from cgnl_mm.experiments import start
from cgnl_mm.experiments.frames import Features

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def data():
    return Features(64, 'train'), Features(64, 'test')


def test_default_learns_where_the_authors_start_does_not(data):
    """Without a block that mixes the frames, 50 % is what can be had."""

    def accuracy(name):
        return start.train(start.SETTINGS[name], 'same', 0, *data, steps=200)[
            'accuracy'
        ]

    assert accuracy('weight 0.1') > 70
    assert accuracy('author') < 60


@pytest.mark.parametrize('name', ['author', 'weight 0.1'])
def test_settings_make_the_block_that_they_name(name):
    block = start.build_block(start.SETTINGS[name])
    std = block.theta.weight.std().item()
    assert std == pytest.approx(0.01 if name == 'author' else 0.04, rel=0.1)
    assert (block.norm.weight == (0 if name == 'author' else 0.1)).all()


@pytest.mark.parametrize(
    ('only', 'steps', 'message'),
    [('nothing', 1, "'nothing'; there are no block"), ('', 0, '0 steps')],
)
def test_nothing_to_train(only, steps, message, tmp_path):
    with pytest.raises(SetupError, match=message):
        start.run_study(tmp_path, re.compile(only), steps=steps)


def test_page_shows_the_lines_of_the_committed_csv():
    page = (ROOT / 'docs/start.md').read_text('utf-8')
    frame = pd.read_csv(ROOT / 'docs/results/start.csv')
    assert set(frame.setting) <= set(start.SETTINGS)
    for line in start.summarize(frame).to_numpy():
        assert f'| {" | ".join(line)} |' in page
