"""Write the records of a benchmark as csv, markdown and a figure.

A record is a dict and one line of the csv: one form of one case in one pass.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

# Ratio columns, and the form whose median divides.
RATIOS = {
    'to_loop': 'per-group loop',
    'to_convolutions': 'convolutions',
    'to_nl': 'NL gaussian',
    'to_no_block': 'no block',
}
# Columns that make a table for each pass, and the titles of the tables.
TITLES = {
    'median_ms': 'ms',
    'peak_mb': 'peak memory beyond what was there, MB',
    'saved_mb': 'kept for the backward pass, without input and parameters, MB',
    'traffic_mb': 'read and written, MB',
    'operators': 'number of operators',
}
# Columns that the figures show.
FIGURES = dict(
    block='to_loop',
    networks='to_no_block',
    scaling='median_ms',
    traffic='traffic_mb',
)
TEXT = """\
Times are medians of interleaved runs. In brackets stands the ratio to the
per-group loop in the same rounds, for networks to the one without blocks. A ~
marks quartiles that are more than 10 % of the median apart, which a noisy
machine causes. A block's forward pass runs in inference mode; forward +
backward computes the gradients of the input and of every parameter. A
network's passes are the host's own test_step and train_step, from uint8 images
to predictions or to the optimizer's step. Traffic is counted without a GPU:
docs/performance.md has the conventions."""
# Quartiles further apart than this share of the median get a ~.
NOISY = 0.1


def quartiles(samples: list[float]) -> dict:
    """Return the columns for samples in seconds."""
    q1, median, q3 = 1e3 * np.quantile(samples, (0.25, 0.5, 0.75))
    return dict(median_ms=median, q1_ms=q1, q3_ms=q3, samples=len(samples))


def make_table(records: list[dict]) -> pd.DataFrame:
    """Make a table with the ratios to the forms of the same round robin."""
    # Objects keep integers beside empty fields what they are.
    table = pd.DataFrame(records, dtype=object)
    rounds = pd.MultiIndex.from_frame(table[['case', 'pass']])
    for ratio, base in RATIOS.items():
        bases = table[table['form'] == base].set_index(['case', 'pass'])
        if 'median_ms' in table and len(bases):
            medians = bases['median_ms'].reindex(rounds)
            table[ratio] = table['median_ms'] / medians.to_numpy()
    return table


def write_report(
    folder: Path, what: str, table: pd.DataFrame, facts: dict[str, str]
) -> None:
    """Write the tables for people and the figure.

    Args:
        folder (Path): Folder of the files.
        what (str): Name of the experiment.
        table (DataFrame): :func:`make_table` of all records.
        facts (dict[str, str]): Versions, hardware and settings.
    """
    run = f'{what}, {", ".join(table.loc[0, ["device", "dtype", "layout"]])}'
    parts = [f'# Benchmark: {run}', as_list(facts), TEXT]
    for column in filter(table.columns.__contains__, TITLES):
        rows = table[table[column].notna()]
        for kind, part in rows.groupby('pass', sort=False):
            parts.append(f'## {kind.capitalize()}, {TITLES[column]}')
            parts.append(as_markdown(part, column))
    absent = table[table['status'] != 'ok']
    if len(absent):
        names = absent[['case', 'form', 'pass']].agg(', '.join, axis=1)
        lines = as_list(dict(zip(names, absent['status'])))
        parts += ['## Without a result', lines]
    text = '\n\n'.join(parts) + '\n'
    (folder / f'{what}.md').write_text(text, encoding='utf-8')
    column = FIGURES[what]
    if column in table and table[column].notna().any():
        draw(folder / f'{what}.png', table, column, run)


def as_list(facts: dict) -> str:
    return '\n'.join(f'- {name}: {value}' for name, value in facts.items())


def pivot(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a row for each case and a column for each form, in order."""
    wide = table.pivot(index='case', columns='form', values=column)
    return wide.reindex(table['case'].unique())[table['form'].unique()]


def as_markdown(table: pd.DataFrame, column: str) -> str:
    cells = table.apply(cell, axis=1, column=column)
    wide = pivot(table.assign(cell=cells), 'cell').fillna('')
    return wide.to_markdown(disable_numparse=True)


def cell(record: pd.Series, column: str) -> str:
    """Format one number, with a mark for noise and the ratio of a time."""
    value = record[column]
    text = f'{value:.3g}' if value < 1000 else f'{value:.0f}'
    if column != 'median_ms':
        return text
    noisy = record['q3_ms'] - record['q1_ms'] > NOISY * value
    ratio = record.get('to_loop', record.get('to_no_block'))
    text = f'~{text}' if noisy else text
    return text if pd.isna(ratio) else f'{text} ({ratio:.2f})'


def draw(path: Path, table: pd.DataFrame, column: str, title: str) -> None:
    """Draw a panel for each pass, with a mark for each case and form."""
    table = table[table[column].notna()]
    panels = list(table.groupby('pass', sort=False))
    size = (len(panels) * (2 + 0.25 * table['case'].nunique()), 6)
    figure = Figure(size, layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (kind, part) in zip(axes, panels):
        # All forms, so that a form has one colour in all panels.
        wide = pivot(part, column).reindex(columns=table['form'].unique())
        wide.astype(float).plot(
            ax=axis,
            title=kind,
            ylabel=column,
            logy=True,
            marker='o',
            linestyle='',
            colormap='tab20',
            legend=False,
            grid=True,
        )
        axis.set_xticks(range(len(wide)), wide.index, rotation=90)
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc='outside lower center', ncols=4)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
