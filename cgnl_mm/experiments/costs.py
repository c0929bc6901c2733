"""Count the parameters and FLOPs of a grid's cells, once."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from ..hosts import HOME
from .grid import Grid
from .run import RunError, read_json, write_json


def find_costs(grid: Grid, configs: dict, root: Path, count: bool) -> dict:
    """Return 'parameters' and 'flops' by cell, kept in ``cost.json``.

    Args:
        grid (Grid): The grid.
        configs (dict[str, Config]): The config of each cell to count.
        root (Path): The grid's folder.
        count (bool): Whether cells are counted that were not counted before.
    """
    costs = {}
    for name, cfg in configs.items():
        path = root / name / 'cost.json'
        text = repr((cfg.model.to_dict(), cfg.test_dataloader, grid.shape))
        key = hashlib.sha256(text.encode()).hexdigest()
        try:
            found = read_json(path) or {}
        except RunError:
            found = {}
        if found.get('key') != key:
            found = count and _count(root / name / f'{name}.py', grid.shape)
            if not found:
                continue
            found['key'] = key
            write_json(path, found)
        costs[name] = dict(parameters=found['params'], flops=found['flops'])
    return costs


def _count(config: Path, shape: list[int]) -> dict | None:
    """Run tools/get_flops.py; return None if it fails."""
    command = [sys.executable, HOME / 'tools/get_flops.py', config, '--json']
    command += ['--shape', *map(str, shape)] if shape else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['?'])[-1]
        print(f'note: no FLOPs of {config.stem}: {last}', file=sys.stderr)
        return None
    network = json.loads(done.stdout)['network']
    return dict(params=network['params'], flops=network['flops'])
