"""Write the records of a benchmark as markdown and a figure.

A record is a dict and one line of the csv: one form of one case in one pass.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .forms import LOOP

KEYS = ['experiment', 'pass']
TEXT = """\
Times are medians of interleaved runs; to_loop is the ratio to the per-group
loop in the same rounds. A network has five blocks. peak_mb is memory beyond
what was there. docs/performance.md has the conventions of traffic_mb."""


def make_table(records: list[dict]) -> pd.DataFrame:
    """Make a table with the ratios to the loop in the same round robin."""
    # Objects keep integers beside empty fields what they are.
    table = pd.DataFrame(records, dtype=object)
    costs = table.reindex(columns=['median_ms', 'traffic_mb']).astype(float)
    cost = costs.sum(axis=1, min_count=1)
    rounds = [table[key] for key in ('case', *KEYS)]
    loop = cost.where(table['form'] == LOOP).groupby(rounds).transform('max')
    return table.assign(to_loop=cost / loop)


def write_report(folder: Path, table: pd.DataFrame, facts: dict) -> None:
    """Write the tables for people and the figure.

    Args:
        folder (Path): Folder of ``benchmark.md`` and ``benchmark.png``.
        table (DataFrame): :func:`make_table` of all records.
        facts (dict[str, str]): Versions, hardware and settings.
    """
    facts = '\n'.join(f'- {name}: {value}' for name, value in facts.items())
    parts = ['# Benchmark', facts, TEXT]
    for names, rows in table.groupby(KEYS, sort=False):
        rows = rows.drop(columns=KEYS).dropna(axis=1, how='all').fillna('')
        cells = rows.map(lambda v: f'{v:.4g}' if isinstance(v, float) else v)
        parts.append(f'## {": ".join(names)}')
        parts.append(cells.to_markdown(index=False, disable_numparse=True))
    text = '\n\n'.join(parts) + '\n'
    (folder / 'benchmark.md').write_text(text, encoding='utf-8')
    draw(folder / 'benchmark.png', table)


def draw(path: Path, table: pd.DataFrame) -> None:
    """Draw the ratios to the loop: a panel for each experiment and pass."""
    panels = list(table.groupby(KEYS, sort=False))
    widths = [2 + 0.3 * part['case'].nunique() for _, part in panels]
    figure = Figure((max(9, sum(widths)), 6), layout='constrained')
    axes = figure.subplots(
        1, len(panels), squeeze=False, sharey=True, width_ratios=widths
    )[0]
    for axis, (names, part) in zip(axes, panels):
        wide = part.pivot(index='case', columns='form', values='to_loop')
        # All forms, so that a form has one colour in all panels.
        wide = wide.reindex(part['case'].unique(), columns=table.form.unique())
        look = dict(marker='o', linestyle='', colormap='tab20', grid=True)
        wide.astype(float).plot(
            ax=axis, title=': '.join(names), logy=True, legend=False, **look
        )
        axis.set_xticks(range(len(wide)), wide.index, rotation=90)
        axis.set(xlabel='', xlim=(-0.5, len(wide) - 0.5))
    axes[0].set_ylabel('cost, as a ratio to the per-group loop')
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc='outside lower center', ncols=4)
    figure.savefig(path, dpi=110)
