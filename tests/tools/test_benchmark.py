"""benchmark.py: what it writes, run as a user runs it."""

from functools import partial

import matplotlib.image
import pandas as pd
import pytest
import torch

from cgnl_mm.benchmark import EXPERIMENTS
from cgnl_mm.benchmark.forms import LOOP, block_forms
from cgnl_mm.benchmark.report import RATIOS

FORMS = {form.name: form for form in block_forms()}
read_csv = partial(pd.read_csv, float_precision='round_trip')


def check_ratios(table, *columns):
    assert not table.duplicated(['case', 'pass', 'form']).any()
    assert (table.status == 'ok').all()
    for _, part in table.groupby(['case', 'pass']):
        part = part.set_index('form')
        for column in columns:
            base = part.median_ms.get(RATIOS[column], float('nan'))
            assert part[column].equals((part.median_ms / base).rename(column))


@pytest.fixture(scope='module')
def finished(run_tool, tmp_path_factory):
    """The folder that all experiments wrote, run as a user runs them."""
    folder = tmp_path_factory.mktemp('benchmark')
    run_tool(
        'benchmark.py', '--what', 'all', '--quick', '--shapes',
        '^(R-50|I3D|r50_|i3d_|positions)', '--out', 'out',
        cwd=folder,
    )  # fmt: skip
    return folder / 'out'


def test_every_form_of_the_block_is_measured(finished):
    """Both passes, times in order, ratios of the times beside them."""
    table = read_csv(finished / 'block.csv')
    cases = table.groupby(['case', 'pass']).form
    assert len(cases) == 4
    for (case, kind), measured in cases:
        wanted = {
            form.name
            for form in FORMS.values()
            if kind != 'forward' or not form.recompute
        }
        if case.startswith('i3d'):
            wanted.remove('ContextBlock')
        assert set(measured) == wanted
    assert {*table.device, *table.dtype} == {'cpu', 'float32'}
    times = table[['q1_ms', 'median_ms', 'q3_ms']]
    assert (times > 0).all(axis=None)
    assert (times.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (table.peak_mb > 0).all()
    assert (table.saved_mb.notna() == (table['pass'] != 'forward')).all()
    check_ratios(table, 'to_loop', 'to_convolutions', 'to_nl')


def test_networks_scaling_and_traffic_are_measured(finished):
    table = read_csv(finished / 'networks.csv')
    assert list(zip(table['case'], table['pass'], table['form'])) == [
        (case, kind, form)
        for case in ('R-50', 'I3D-R50')
        for kind in ('backbone forward', 'forward', 'training step')
        for form in ('no block', '1 block', '5 blocks')
    ]
    check_ratios(table, 'to_no_block')
    table = read_csv(finished / 'scaling.csv')
    assert set(table.varied) == {'positions'}
    assert set(zip(table['value'], table['positions'])) == {
        (49, 49), (196, 196),
    }  # fmt: skip
    check_ratios(table, 'to_loop')
    table = read_csv(finished / 'traffic.csv')
    assert set(table.form) == {name for name in FORMS if 'auto' not in name}
    assert (table[['traffic_mb', 'operators']] > 0).all(axis=None)
    check_ratios(table)


def test_tables_and_pictures_show_the_csv(finished):
    for name in EXPERIMENTS:
        text = (finished / f'{name}.md').read_text()
        assert f'torch: {torch.__version__.split("+")[0]}' in text
        assert '- CPU: ' in text and '- threads: ' in text
        for case in read_csv(finished / f'{name}.csv')['case']:
            assert f'\n| {case} ' in text
        picture = matplotlib.image.imread(finished / f'{name}.png')[..., :3]
        # more than white paper and black letters
        assert len(set(map(tuple, picture.reshape(-1, 3).tolist()))) > 50
    table = read_csv(finished / 'block.csv').set_index(
        ['case', 'pass', 'form']
    )
    value = table.median_ms['r50_res4_224_b2', 'forward', LOOP]
    assert f'{value:.3g} (1.00)' in (finished / 'block.md').read_text()
