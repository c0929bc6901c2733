"""What tools/benchmark.py writes: csv, markdown, with versions and hardware.

A record is a dict, one line of the csv: one form of one case in one pass.
"""

import csv
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from cgnl_mm.hosts import HOME as ROOT
from cgnl_mm.version import __version__

# ratio columns: the form whose median divides
RATIOS = {
    'block': {
        'to_loop': 'per-group loop',
        'to_convolutions': 'convolutions',
        'to_nl': 'NL gaussian',
    },
    'networks': {'to_no_block': 'no block'},
}
RATIOS['scaling'] = RATIOS['block']
MEMORY = ('peak_mb', 'saved_mb', 'saved_x_mb', 'saved_parameters_mb')
INPUT = (
    'batch', 'channels', 'size', 'positions', 'groups', 'mode', 'order',
)  # fmt: skip
TIMES = ('median_ms', 'q1_ms', 'q3_ms', 'samples')
RUN = ('device', 'dtype', 'layout')
# quartiles further apart than this share of the median get a ~
NOISY = 0.1


def fields(what: str) -> list[str]:
    """Columns of the csv of an experiment."""
    start = ['case', 'form', 'pass', 'status']
    if what == 'scaling':
        start = ['varied', 'value', *start]
    if what == 'networks':
        rest = ('batch', 'size', *TIMES, *RATIOS[what], 'peak_mb')
    else:
        rest = (*INPUT, *TIMES, *RATIOS[what], *MEMORY)
    return [*start, *rest, *RUN]


def add_ratios(records: list[dict], what: str) -> None:
    """Fill the ratio columns of one case and pass, all of one round robin."""
    medians = {r['form']: r.get('median_ms') for r in records}
    for record in records:
        for field, base in RATIOS[what].items():
            if record.get('median_ms') and medians.get(base):
                record[field] = record['median_ms'] / medians[base]


def environment(device: str, options: str) -> dict[str, str]:
    """Versions and hardware.

    Args:
        device (str): 'cpu' or 'cuda'.
        options (str): The command line.
    """
    commit = _git('rev-parse', '--short', 'HEAD') or 'unknown'
    if _git('status', '--porcelain'):
        commit += ' with changes'
    facts = {
        'command': f'tools/benchmark.py {options}'.strip(),
        'cgnl_mm': f'{__version__}, commit {commit}',
        'Python': platform.python_version(),
        'torch': torch.__version__,
    }
    for name in ('mmcv', 'mmcv-lite', 'mmengine', 'mmpretrain', 'mmaction2',
                 'mmdet'):  # fmt: skip
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts['CPU'] = (
        f'{_cpu_model()}, {os.cpu_count()} cores, '
        f'{torch.backends.cpu.get_cpu_capability()}'
    )
    facts['threads'] = str(torch.get_num_threads())
    facts['OMP_WAIT_POLICY'] = os.environ.get('OMP_WAIT_POLICY', 'unset')
    if device != 'cpu':
        facts['GPU'] = torch.cuda.get_device_name()
        facts['CUDA, cuDNN'] = (
            f'{torch.version.cuda}, {torch.backends.cudnn.version()}'
        )
        facts['TF32'] = str(torch.backends.cudnn.allow_tf32)
    return facts


def _git(*args: str) -> str:
    try:
        done = subprocess.run(
            ['git', '-C', ROOT, *args], capture_output=True, text=True
        )
    except OSError:  # no git
        return ''
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_csv(path: Path, records: list[dict], what: str) -> None:
    """One line a record, full precision."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fields(what), restval='')
        writer.writeheader()
        writer.writerows(records)


INTRODUCTION = {
    'block': """\
Milliseconds, medians of interleaved runs; in brackets the ratio to the
per-group loop in the same rounds. A ~ marks quartiles more than 10 % of the
median apart: a noisy machine. Forward is in inference mode; forward +
backward computes the gradients of the input and of every parameter. Weights
and input have the type of the run.""",
    'networks': """\
Milliseconds, medians of interleaved runs; in brackets the ratio to the network
without blocks, whose excess over 1 is the blocks' share. A ~ marks quartiles
more than 10 % of the median apart: a noisy machine. Forward and training step
are the host's own test_step and train_step, from uint8 images to predictions
or to the optimizer's step.""",
}
INTRODUCTION['scaling'] = (
    'One quantity varies at a time. ' + INTRODUCTION['block']
)


def write_markdown(
    path: Path, records: list[dict], what: str, facts: dict[str, str]
) -> None:
    """The tables for people.

    Args:
        path (Path): The file.
        records (list[dict]): All of one experiment.
        what (str): Its name.
        facts (dict[str, str]): :func:`environment`.
    """
    first = records[0]
    lines = [
        f'# Benchmark: {what}, {first["device"]}, {first["dtype"]}, '
        f'{first["layout"]}',
        '',
        *(f'- {name}: {value}' for name, value in facts.items()),
        '',
        INTRODUCTION[what],
        '',
    ]
    ratio = next(iter(RATIOS[what]))
    for kind in dict.fromkeys(r['pass'] for r in records):
        chosen = [r for r in records if r['pass'] == kind]
        lines += _table(f'{kind.capitalize()}, ms', chosen, ratio)
    for kind in dict.fromkeys(r['pass'] for r in records):
        chosen = [r for r in records if r['pass'] == kind and 'peak_mb' in r]
        title = f'{kind.capitalize()}, peak memory beyond what was there, MB'
        lines += _table(title, chosen, None, 'peak_mb')
    chosen = [r for r in records if 'saved_mb' in r]
    title = 'Kept for the backward pass, without input and parameters, MB'
    lines += _table(title, chosen, None, 'saved_mb')
    absent = [r for r in records if r['status'] != 'ok']
    if absent:
        lines += ['## Without a result', '']
        lines += [
            f'- {r["case"]}, {r["form"]}, {r["pass"]}: {r["status"]}'
            for r in absent
        ]
    path.write_text('\n'.join(lines).rstrip() + '\n', encoding='utf-8')


def _table(title, records, ratio, value='median_ms') -> list[str]:
    if not records:
        return []
    forms = list(dict.fromkeys(r['form'] for r in records))
    cells = {(r['case'], r['form']): r for r in records}
    lines = [
        f'## {title}',
        '',
        f'| | {" | ".join(forms)} |',
        '|---' * (len(forms) + 1) + '|',
    ]
    for case in dict.fromkeys(r['case'] for r in records):
        row = [_cell(cells.get((case, f)), value, ratio) for f in forms]
        lines.append(f'| {case} | {" | ".join(row)} |')
    return [*lines, '']


def _cell(record: dict | None, value: str, ratio: str | None) -> str:
    if record is None:
        return ''
    if record['status'] != 'ok':
        return record['status'].partition(':')[0]
    if value not in record:
        return ''
    text = f'{record[value]:.3g}'
    if record[value] >= 1000:
        text = f'{record[value]:.0f}'
    if value in TIMES and record.get('samples'):
        spread = record['q3_ms'] - record['q1_ms']
        if spread > NOISY * record['median_ms']:
            text = f'~{text}'
    if ratio in record:
        text += f' ({record[ratio]:.2f})'
    return text
