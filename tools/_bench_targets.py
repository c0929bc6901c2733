"""The targets of the fast paths, and whether a benchmark met them."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A limit for a ratio over all cases.

    Attributes:
        text (str): What it is.
        what (str): The experiment that measures it.
        form (str): The form.
        kind (str): The pass.
        ratio (str): A ratio column; 'saved' and 'saved with x' divide saved
            bytes by the per-group loop's.
        limits (dict): Limit by device; a device without one is left out.
        case (str): What the name of the case contains. Defaults to all.
    """

    text: str
    what: str
    form: str
    kind: str
    ratio: str
    limits: dict[str, float]
    case: str = ''


def _both(cpu: float, cuda: float) -> dict[str, float]:
    return {'cpu': cpu, 'cuda': cuda}


AUTO, RECOMPUTE = 'cgnl auto', 'cgnl auto recompute'
FORWARD, TRAINING = 'forward', 'forward + backward'
TARGETS = [
    Target('forward, to the per-group loop', 'block', AUTO, FORWARD,
           'to_loop', _both(0.75, 0.25)),
    Target('forward + backward, to the per-group loop', 'block', AUTO,
           TRAINING, 'to_loop', _both(0.75, 0.30)),
    Target('forward, to the four convolutions alone', 'block', AUTO, FORWARD,
           'to_convolutions', _both(1.2, 1.5)),
    Target('saved activations, to the per-group loop', 'block', AUTO,
           TRAINING, 'saved', _both(0.5, 0.5)),
    Target('the same, counting the input', 'block', AUTO, TRAINING,
           'saved with x', _both(0.5, 0.5)),
    Target('saved activations with recompute', 'block', RECOMPUTE, TRAINING,
           'saved', _both(0.2, 0.2)),
    Target('the same, counting the input', 'block', RECOMPUTE, TRAINING,
           'saved with x', _both(0.2, 0.2)),
    Target('forward + backward, to mmcv NonLocal', 'block', AUTO, TRAINING,
           'to_nl', _both(0.6, 0.5)),
    Target('forward + backward, to mmcv NonLocal at 50x84', 'block', AUTO,
           TRAINING, 'to_nl', {'cpu': 0.25}, 'mask_rcnn_res4'),
    Target('I3D-R50 training step with 1 block, to none', 'networks',
           '1 block', 'training step', 'to_no_block', _both(1.02, 1.01),
           'I3D-R50'),
    Target('I3D-R50 training step with 5 blocks, to none', 'networks',
           '5 blocks', 'training step', 'to_no_block', _both(1.06, 1.04),
           'I3D-R50'),
]  # fmt: skip


def judge(records: dict[str, list[dict]], device: str) -> list[dict]:
    """Compare every target with what was measured.

    Args:
        records (dict[str, list[dict]]): By experiment; numbers may be text,
            as read from a csv.
        device (str): 'cpu' or 'cuda'.

    Returns:
        list[dict]: 'target', 'limit', 'worst' (with its case), 'median' and
        'verdict', 'met', 'not met' or 'not measured', each as text.
    """
    rows = []
    for target in TARGETS:
        if device not in target.limits:
            continue
        limit = target.limits[device]
        values = _ratios(target, records.get(target.what, []))
        row = dict(target=target.text, limit=f'<= {limit:g}')
        if values:
            worst = max(values, key=values.get)
            within = sum(value <= limit for value in values.values())
            met = within == len(values)
            row.update(
                worst=f'{values[worst]:.3f} ({worst})',
                median=f'{statistics.median(values.values()):.3f}',
                verdict='met'
                if met
                else f'not met ({within} of {len(values)} cases)',
            )
        else:
            row.update(worst='', median='', verdict='not measured')
        rows.append(row)
    return rows


def _ratios(target: Target, records: list[dict]) -> dict[str, float]:
    """Ratio by case."""
    records = [
        record
        for record in records
        if record['pass'] == target.kind and target.case in record['case']
    ]
    values = {}
    if not target.ratio.startswith('saved'):
        for record in records:
            if record['form'] == target.form and record.get(target.ratio):
                values[record['case']] = float(record[target.ratio])
        return values
    loop = {r['case']: r for r in records if r['form'] == 'per-group loop'}
    for record in records:
        base = loop.get(record['case'])
        if record['form'] == target.form and base:
            mine = _saved(record, target.ratio)
            other = _saved(base, target.ratio)
            if mine is not None and other:
                values[record['case']] = mine / other
    return values


def _saved(record: dict, ratio: str) -> float | None:
    if record.get('saved_mb', '') == '':
        return None
    value = float(record['saved_mb'])
    return value + float(record['saved_x_mb']) * (ratio == 'saved with x')


def as_markdown(rows: list[dict], title: str) -> str:
    """A table."""
    lines = [
        f'# {title}',
        '',
        'The worst and the median case; *met* means in every case.',
        '',
        '| target | limit | worst | median | |',
        '|---|---|---|---|---|',
    ]
    lines += [f'| {" | ".join(row.values())} |' for row in rows]
    return '\n'.join(lines) + '\n'
