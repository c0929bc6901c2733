"""The numbers of docs/performance.md are those of docs/performance/*.csv."""

import csv
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/performance.md'
AUTO, TUNED, LOOP = 'cgnl auto', 'cgnl autotune', 'per-group loop'
RECOMPUTE, NL, CONVS = 'cgnl auto recompute', 'NL gaussian', 'convolutions'
FORWARD, TRAINING = PASSES = 'forward', 'forward + backward'
OTHERS = ('ContextBlock', 'NL dot sub', 'NL dot', 'NL gaussian sub', NL)
# the machine of the tables, and the one before it
MACHINES = ('avx2', 'avx512')


class Results:
    """A csv of tools/benchmark.py."""

    def __init__(self, name):
        path = ROOT / f'docs/performance/{name}.csv'
        with path.open(encoding='utf-8') as file:
            self.records = list(csv.DictReader(file))
        self.cells = {
            (r['case'], r['form'], r['pass']): r for r in self.records
        }
        self.cases = list(dict.fromkeys(r['case'] for r in self.records))

    def value(self, case, form, kind, field='median_ms'):
        return float(self.cells[case, form, kind][field])

    def ratio(self, case, kind, form, base, field='median_ms'):
        """None where a form has no number."""
        try:
            a, b = (
                self.value(case, name, kind, field) for name in (form, base)
            )
        except (KeyError, ValueError):
            return None
        return a / b

    def ratios(self, *args):
        found = [self.ratio(c, *args) for c in self.cases]
        return [ratio for ratio in found if ratio is not None]


def text(ratio):
    if ratio is None:
        return ''
    return f'{ratio:.2f}' if ratio < 9.995 else f'{ratio:.0f}'


def block_rows(name):
    """Time and kept activations of 'auto', to the loop."""
    results, rows = Results(name), []
    for case in results.cases:
        r = results.cells[case, LOOP, TRAINING]
        columns = (
            (FORWARD, AUTO, LOOP), (TRAINING, AUTO, LOOP),
            (FORWARD, TUNED, LOOP), (TRAINING, TUNED, LOOP),
            (TRAINING, RECOMPUTE, LOOP),
            (FORWARD, AUTO, CONVS), (FORWARD, CONVS, LOOP),
        )  # fmt: skip
        kept = LOOP, 'saved_mb'
        rows.append([
            f'{r["batch"]}x{r["channels"]}x{r["size"]}',
            *(text(results.ratio(case, *column)) for column in columns),
            f'{float(r["saved_mb"]):.1f}',
            text(results.ratio(case, TRAINING, AUTO, *kept)),
            text(results.ratio(case, TRAINING, RECOMPUTE, *kept)),
        ])  # fmt: skip
    return rows


def other_rows(name):
    """Time of other blocks, forward / training, to that of 'auto'."""
    results, rows = Results(name), []
    for case in results.cases:
        r = results.cells[case, LOOP, TRAINING]
        cells = [
            [text(results.ratio(case, kind, form, AUTO)) for kind in PASSES]
            for form in OTHERS
        ]
        peaks = (results.cells.get((case, f, TRAINING))
                 for f in (AUTO, RECOMPUTE, LOOP, NL))  # fmt: skip
        rows.append([
            f'{r["batch"]}x{r["channels"]}x{r["size"]}',
            *(' / '.join(cell).strip(' /') for cell in cells),
            *(f'{float(p["peak_mb"]):.0f}' if p and p['peak_mb'] else ''
              for p in peaks),
        ])  # fmt: skip
    return rows


def network_rows():
    results = [Results(f'{machine}/networks') for machine in MACHINES]
    rows = []
    for case in results[0].cases:
        passes = [k for c, _, k in results[0].cells if c == case]
        for kind in dict.fromkeys(passes):
            row = [case, kind]
            for found in results:
                row.append(f'{found.value(case, "no block", kind):.0f} ms')
                row += [
                    text(found.ratio(case, kind, form, 'no block'))
                    for form in ('1 block', '5 blocks')
                ]
            rows.append(row)
    return rows


def scaling_rows():
    results = Results('avx2/scaling')
    cases = [c for c in results.cases if c.startswith('positions=')]
    rows = []
    for label, form in {
        'auto': AUTO, 'auto, recompute': RECOMPUTE, 'the loop': LOOP, 'NL': NL
    }.items():  # fmt: skip
        cells = [results.cells[c, form, TRAINING] for c in cases]
        times = [float(r['median_ms'] or 'nan') for r in cells]
        rows.append([label, *(milliseconds(t) for t in times)])
    return rows


def milliseconds(t):
    if t != t:
        return ''
    return f'{t:.1f}' if t < 20 else f'{t:.0f}'


def spread(ratios):
    return (
        f'{text(min(ratios))} to {text(max(ratios))}, '
        f'median {text(median(ratios))}'
    )


# of the page, and of tools/_bench_targets.py
TARGETS = {
    'forward, to the loop': 'forward, to the per-group loop',
    'forward + backward, to the loop':
        'forward + backward, to the per-group loop',
    'forward, to the four convolutions alone':
        'forward, to the four convolutions alone',
    "kept activations, own share of the loop's":
        'saved activations, to the per-group loop',
    'the same with recomputation': 'saved activations with recompute',
    'forward + backward, to NL': 'forward + backward, to mmcv NonLocal',
    'the same at 50x84': 'forward + backward, to mmcv NonLocal at 50x84',
    'I3D-R50 training step, 1 block':
        'I3D-R50 training step with 1 block, to none',
    'I3D-R50 training step, 5 blocks':
        'I3D-R50 training step with 5 blocks, to none',
}  # fmt: skip


def target_rows():
    """By machine: what was measured, and in how many cases the limit holds."""
    import _bench_targets

    targets = {target.text: target for target in _bench_targets.TARGETS}
    rows = []
    for label, name in TARGETS.items():
        target = targets[name]
        limit = target.limits['cpu']
        row = [label, str(limit)]
        for machine in MACHINES:
            records = Results(f'{machine}/{target.what}').records
            ratios = _bench_targets._ratios(target, records).values()
            within = sum(ratio <= limit for ratio in ratios)
            cell = spread(ratios) if len(ratios) > 1 else text(*ratios)
            row += [cell, verdict(within, len(ratios))]
        rows.append(row)
    return rows


def verdict(within, count):
    if within in (0, count):
        return 'yes' if within else 'no'
    return f'in {within} of {count}'


def layout_rows():
    rows = []
    for label, name in (
        ('channels last, float32', 'avx512/block_channels_last'),
        ('contiguous, bfloat16', 'avx512/block_bfloat16'),
    ):
        results = Results(name)
        ratios = [results.ratios(k, AUTO, LOOP) for k in PASSES]
        rows.append([label, str(len(ratios[0])), *map(spread, ratios)])
    return rows


TABLES = {
    'target (ratio)': target_rows,
    'input': lambda: block_rows('avx2/block'),
    'input (to auto)': lambda: other_rows('avx2/block'),
    'network': network_rows,
    'positions': scaling_rows,
    'layout, type': layout_rows,
}


def table_of_page(title):
    """Rows of the table whose first header is the title."""
    page = PAGE.read_text(encoding='utf-8')
    tables = re.findall(r'(?:^\|.*\n)+', page, re.MULTILINE)
    tables = [
        [[c.strip() for c in line.strip('|').split('|')]
         for line in table.splitlines()]
        for table in tables
    ]  # fmt: skip
    (table,) = (t for t in tables if t[0][0] == title)
    return table[2:]


@pytest.mark.parametrize('title', TABLES)
def test_numbers_are_those_of_the_csv(title, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    assert table_of_page(title) == TABLES[title]()
