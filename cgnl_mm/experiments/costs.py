"""Count the parameters and FLOPs of a grid's cells, once."""

import hashlib
import json
import subprocess
import sys

from ..hosts import HOME
from .run import Run, read_json, write_json


def find_costs(runs: list[Run], count: bool) -> dict:
    """Return 'params' and 'flops' by cell, kept in ``cost.json``.

    Args:
        runs (list[Run]): Runs of the cells to count.
        count (bool): Whether cells are counted that were not counted before.
    """
    costs = {}
    for run in {run.cell.name: run for run in runs}.values():
        path = run.config.with_name('cost.json')
        plan, shape = run.plan['config'], run.grid.shape
        text = json.dumps([plan['model'], plan['test_dataloader'], shape])
        key = hashlib.sha256(text.encode()).hexdigest()
        found = read_json(path) or {}
        if found.get('key') != key:
            found = _count(run) if count else {}
            if found:
                write_json(path, {'key': key, **found})
        costs[run.cell.name] = found
    return costs


def _count(run: Run) -> dict:
    """Run tools/get_flops.py."""
    command = [sys.executable, HOME / 'tools/get_flops.py', run.config]
    shape = run.grid.shape
    command += ['--shape', *map(str, shape)] if shape else []
    done = subprocess.run([*command, '--json'], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['?'])[-1]
        print(f'note: no FLOPs of {run.config.stem}: {last}', file=sys.stderr)
        return {}
    return json.loads(done.stdout)['network']
