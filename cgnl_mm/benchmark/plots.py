"""The pictures of tools/benchmark.py."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')  # no display needed
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# by the start of a form's name: colours of its members, marker
STYLES = {
    'cgnl': (('#1f77b4', '#17becf', '#2ca02c', '#8c9eff', '#0b3d91',
              '#7cb342', '#00897b', '#5e35b1'), 'o'),
    'per-group loop': (('black', '#757575'), 's'),
    'NL': (('#d62728', '#ff7f0e', '#e377c2', '#bc6c25'), '^'),
    'ContextBlock': (('#9467bd',), 'D'),
    'convolutions': (('#9e9e9e',), 'v'),
    'matrix products': (('#bdbdbd',), 'v'),
}  # fmt: skip


def styles(forms: list[str]) -> dict[str, dict]:
    """Colour and marker of each form."""
    chosen = {}
    for start, (colors, marker) in STYLES.items():
        members = [name for name in forms if name.startswith(start)]
        for index, name in enumerate(members):
            chosen[name] = dict(
                color=colors[index % len(colors)],
                # what users get stands out
                marker='*' if name == 'cgnl auto' else marker,
                markersize=12 if name == 'cgnl auto' else 6,
            )
    return chosen


def plot(path: Path, records: list[dict], what: str) -> None:
    """Draw an experiment; nothing if it has no times.

    Args:
        path (Path): The PNG.
        records (list[dict]): All of it.
        what (str): Its name.
    """
    records = [r for r in records if r.get('median_ms')]
    if not records:
        return
    draw = dict(block=_block, networks=_networks, scaling=_scaling)[what]
    figure = draw(records)
    first = records[0]
    figure.suptitle(f'{first["device"]}, {first["dtype"]}, {first["layout"]}')
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _unique(records: list[dict], key: str) -> list:
    return list(dict.fromkeys(record[key] for record in records))


def _legend(figure, looks: dict[str, dict], line: bool) -> None:
    handles = [
        Line2D([], [], linestyle='-' if line else '', label=name, **look)
        for name, look in looks.items()
    ]
    figure.legend(
        handles=handles, loc='outside lower center', ncols=5, fontsize=8,
        frameon=False,
    )  # fmt: skip


def _plain_numbers(axis) -> None:
    """0.1, 0.2, 0.5, 1 in place of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: f'{v:g}'))


def _block(records: list[dict]):
    """Ratios to the loop: a line a case, a mark a form."""
    passes, cases = _unique(records, 'pass'), _unique(records, 'case')
    looks = styles(_unique(records, 'form'))
    figure, axes = plt.subplots(
        1, len(passes), figsize=(6.2 * len(passes), 2.6 + 0.3 * len(cases)),
        sharey=True, squeeze=False, layout='constrained',
    )  # fmt: skip
    for axis, kind in zip(axes[0], passes):
        axis.axvline(1, color='black', linewidth=0.8)
        for record in records:
            if record['pass'] == kind and record.get('to_loop'):
                look = looks[record['form']]
                ours = record['form'].startswith('cgnl')
                axis.plot(
                    record['to_loop'], cases.index(record['case']),
                    linestyle='', zorder=3 if ours else 2, alpha=0.9, **look,
                )  # fmt: skip
        axis.set_xscale('log')
        _plain_numbers(axis.xaxis)
        axis.set_title(kind)
        axis.set_xlabel('time / time of the per-group loop')
        axis.grid(alpha=0.3)
    axes[0][0].set_yticks(range(len(cases)), cases)
    axes[0][0].invert_yaxis()
    _legend(figure, looks, line=False)
    return figure


def _networks(records: list[dict]):
    """Extra time of the blocks, in percent."""
    records = [r for r in records if r['form'] != 'no block']
    names, passes = _unique(records, 'case'), _unique(records, 'pass')
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.2 * len(names), 3.6), squeeze=False,
        layout='constrained',
    )  # fmt: skip
    forms = _unique(records, 'form')
    for axis, name in zip(axes[0], names):
        for record in records:
            if record['case'] == name and record.get('to_no_block'):
                offset = forms.index(record['form']) - (len(forms) - 1) / 2
                percent = 100 * (record['to_no_block'] - 1)
                bar = axis.bar(
                    passes.index(record['pass']) + 0.4 * offset, percent,
                    0.38, color=('#90caf9', '#1f77b4')[
                        forms.index(record['form']) % 2
                    ],
                )  # fmt: skip
                axis.bar_label(bar, fmt='%.1f', fontsize=8)
        axis.axhline(0, color='black', linewidth=0.8)
        axis.set_xticks(range(len(passes)), passes, fontsize=8)
        axis.set_title(name)
        axis.margins(y=0.15)
    axes[0][0].set_ylabel('extra time, %')
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=color, label=form)
        for form, color in zip(forms, ('#90caf9', '#1f77b4'))
    ]
    figure.legend(
        handles=handles, loc='outside lower center', ncols=2, frameon=False
    )
    return figure


def _scaling(records: list[dict]):
    """Milliseconds against each quantity, log-log."""
    passes, quantities = _unique(records, 'pass'), _unique(records, 'varied')
    looks = styles(_unique(records, 'form'))
    figure, axes = plt.subplots(
        len(passes), len(quantities), squeeze=False, layout='constrained',
        figsize=(1 + 3.4 * len(quantities), 1.4 + 3.2 * len(passes)),
    )  # fmt: skip
    for line, kind in zip(axes, passes):
        for axis, varied in zip(line, quantities):
            chosen = [
                r
                for r in records
                if r['pass'] == kind and r['varied'] == varied
            ]
            for form, look in looks.items():
                points = [
                    (r['value'], r['median_ms'])
                    for r in chosen
                    if r['form'] == form
                ]
                if points:
                    axis.plot(*zip(*points), linewidth=1.2, **look)
            axis.set_xscale('log' if varied != 'order' else 'linear')
            axis.set_yscale('log')
            _plain_numbers(axis.yaxis)
            values = sorted({r['value'] for r in chosen})
            axis.set_xticks(values, [f'{value:g}' for value in values])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.tick_params(axis='x', labelsize=7)
            if varied == 'positions':
                axis.tick_params(axis='x', rotation=45)
            axis.set_xlabel(varied)
            axis.grid(alpha=0.3)
        line[0].set_ylabel(f'{kind}, ms')
    _legend(figure, looks, line=True)
    return figure
