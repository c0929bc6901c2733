"""What the errors' module does to text of strangers."""

import csv

import pytest

from cgnl_mm.errors import csv_field


@pytest.mark.parametrize('sign', '=+-@')
def test_no_field_is_a_formula(sign):
    text = f"{sign}cmd|' /C calc'!A0"
    assert csv_field(text) == "'" + text


@pytest.mark.parametrize(
    'value', ['-0.5', '+1e-3', '-inf', -0.5, None, 7, '', 'a=b', '/data/-1']
)
def test_numbers_and_plain_text_stay(value):
    assert csv_field(value) is value


def test_table_of_a_grid_holds_no_formula(load_tool, tmp_path):
    module = load_tool('_reproduce_report')
    cell = module.Cell('a', tmp_path / '-1+1.py', {}, None, {})
    grid = module.Grid('g', 't', ['top1'], [0], {'a': cell})
    results = module.Results(grid, {}, {'a/seed_0': '=1+1'}, {}, '')
    results.write_csv(tmp_path / 'results.csv')
    with open(tmp_path / 'results.csv', newline='') as file:
        (row,) = csv.DictReader(file)
    assert row['reason'] == "'=1+1"
    assert row['config'] == "'-1+1"
    assert row['seed'] == '0'
