"""benchmark.py: what it writes, run as a user runs it."""

import shutil

import matplotlib.image
import pandas as pd
import pytest
import torch

from cgnl_mm.benchmark.forms import COMPILED, FORMS, LOOP

KEYS = ['experiment', 'case', 'pass']
COSTS = ['median_ms', 'traffic_mb']


def run(run_tool, folder, *options):
    run_tool('benchmark.py', '--quick', *options, '--out', 'out', cwd=folder)
    read = dict(float_precision='round_trip')
    table = pd.read_csv(folder / 'out/benchmark.csv', **read)
    assert (table.status == 'ok').all()
    return table


@pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
)
def test_all_experiments(run_tool, tmp_path, device):
    cases = 'i3d_res4_32f', 'i3d_r50', 'dot_product'
    options = '--device', device, '--what', *cases
    table = run(run_tool, tmp_path, *options)
    assert list(table[KEYS].drop_duplicates().itertuples(index=False)) == [
        ('block', cases[0], 'forward'),
        ('block', cases[0], 'forward + backward'),
        ('networks', cases[1], 'training step'),
        ('traffic', cases[2], 'forward'),
        ('traffic', cases[2], 'forward + backward'),
    ]
    for (what, _, _), part in table.groupby(KEYS):
        cost = part.set_index('form')[COSTS[what == 'traffic']]
        ratio = part.set_index('form').to_loop
        assert ratio.equals((cost / cost[LOOP]).rename('to_loop'))
        if what == 'networks':
            assert set(part.form) > {'no block', LOOP, 'cgnl auto'}
        else:
            assert set(part.form) == {*FORMS} - {COMPILED}
    timed = table[table.experiment != 'traffic']
    times = timed[['q1_ms', 'median_ms', 'q3_ms']]
    assert (times.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (timed[['q1_ms', 'peak_mb']] > 0).all(axis=None)
    assert 'kernels' not in table
    text = (tmp_path / 'out/benchmark.md').read_text()
    assert f'- torch: {torch.__version__.split("+")[0]}' in text
    assert all(f'\n| {case} ' in text for case in cases)
    assert f'{timed.median_ms[0]:.4g}' in text
    picture = matplotlib.image.imread(tmp_path / 'out/benchmark.png')
    # more than white paper and black letters
    colours = set(map(tuple, picture[..., :3].reshape(-1, 3).tolist()))
    assert len(colours) > 50


@pytest.mark.nightly
@pytest.mark.skipif(
    shutil.which('g++') is None, reason='Inductor needs a C++ compiler'
)
def test_command_for_a_gpu(run_tool, tmp_path):
    """The one of docs/performance.md, on the CPU."""
    options = '--what', 'all', '--dtype', 'bfloat16', '--compile'
    table = run(run_tool, tmp_path, *options)
    compiled = table[table.form == COMPILED]
    assert set(compiled.experiment) == {'block', 'networks'}
    kernels = table[table.kernels > 0].set_index(['case', 'form']).kernels
    assert len(kernels) == 6
    for case in ('dot_product', 'gaussian_rbf'):
        assert kernels[case, 'cgnl auto'] < kernels[case, LOOP]
