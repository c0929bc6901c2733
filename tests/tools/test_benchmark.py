"""benchmark.py: what it writes, run as a user runs it."""

import csv
import itertools

import matplotlib.image
import pytest
import torch

from cgnl_mm.benchmark import EXPERIMENTS
from cgnl_mm.benchmark.forms import LOOP, block_forms
from cgnl_mm.benchmark.report import RATIOS

FORMS = {form.name: form for form in block_forms()}


def rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def by_case(records):
    """Records by form, for each case and pass."""
    cases = {}
    for record in records:
        key = record['case'], record['pass']
        assert record['form'] not in cases.setdefault(key, {})
        cases[key][record['form']] = record
    return cases


def check_ratios(records, columns):
    for forms in by_case(records).values():
        times = {k: float(r['median_ms']) for k, r in forms.items()}
        for name, column in itertools.product(forms, columns):
            base = times.get(RATIOS[column])
            ratio = str(base and times[name] / base or '')
            assert forms[name][column] == ratio


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
    records = rows(finished / 'block.csv')
    cases = by_case(records)
    assert len(cases) == 4
    for (case, kind), measured in cases.items():
        wanted = {
            form.name
            for form in FORMS.values()
            if kind != 'forward' or not form.recompute
        }
        if case.startswith('i3d'):
            wanted.remove('ContextBlock')
        assert set(measured) == wanted
    for record in records:
        assert record['status'] == 'ok'
        assert (record['device'], record['dtype']) == ('cpu', 'float32')
        times = [float(record[k]) for k in ('q1_ms', 'median_ms', 'q3_ms')]
        assert 0 < times[0] <= times[1] <= times[2]
        assert float(record['peak_mb']) > 0
        assert (record['saved_mb'] != '') == (record['pass'] != 'forward')
    check_ratios(records, ('to_loop', 'to_convolutions', 'to_nl'))


def test_networks_scaling_and_traffic_are_measured(finished):
    records = rows(finished / 'networks.csv')
    assert [(r['case'], r['pass'], r['form']) for r in records] == [
        (case, kind, form)
        for case in ('R-50', 'I3D-R50')
        for kind in ('backbone forward', 'forward', 'training step')
        for form in ('no block', '1 block', '5 blocks')
    ]
    assert {r['status'] for r in records} == {'ok'}
    check_ratios(records, ['to_no_block'])
    records = rows(finished / 'scaling.csv')
    assert {(r['varied'], r['value'], r['positions']) for r in records} == {
        ('positions', '49', '49'), ('positions', '196', '196'),
    }  # fmt: skip
    check_ratios(records, ['to_loop'])
    records = rows(finished / 'traffic.csv')
    assert {r['form'] for r in records} == {
        name for name in FORMS if 'auto' not in name
    }
    for record in records:
        assert record['status'] == 'ok'
        assert float(record['traffic_mb']) > 0 < int(record['operators'])


def test_tables_and_pictures_show_the_csv(finished):
    for name in EXPERIMENTS:
        text = (finished / f'{name}.md').read_text()
        assert f'torch: {torch.__version__.split("+")[0]}' in text
        assert '- CPU: ' in text and '- threads: ' in text
        for record in rows(finished / f'{name}.csv'):
            line = next(
                line
                for line in text.splitlines()
                if line.startswith(f'| {record["case"]} ')
            )
            assert line.count('|') > 3
        picture = matplotlib.image.imread(finished / f'{name}.png')[..., :3]
        # more than white paper and black letters
        assert len(set(map(tuple, picture.reshape(-1, 3).tolist()))) > 50
    loop = by_case(rows(finished / 'block.csv'))['r50_res4_224_b2', 'forward']
    value = float(loop[LOOP]['median_ms'])
    assert f'{value:.3g} (1.00)' in (finished / 'block.md').read_text()
