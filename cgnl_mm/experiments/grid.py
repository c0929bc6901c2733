"""A grid: which configs to train, with which seeds, compared with what."""

import difflib
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from cgnl_mm.cli import read_config_file
from cgnl_mm.errors import SetupError
from cgnl_mm.hosts import HOME as ROOT

NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
# what a config may lack and a run may have
NEW_KEYS = (
    'auto_scale_lr',
    'custom_hooks',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'randomness',
)


@dataclass(frozen=True)
class Cell:
    """One line of the table: a config and what is changed in it.

    Attributes:
        name (str): Its name, part of a path.
        config (Path): The config.
        options (dict): Dotted keys and values, as for ``--cfg-options``.
        baseline (str | None): The cell that it is compared with.
        published (dict): For each source ('paper', ...), one number for each
            metric of the grid; None: not published.
    """

    name: str
    config: Path
    options: dict
    baseline: str | None
    published: dict


@dataclass(frozen=True)
class Grid:
    """A grid file; see ``configs/grids/README.md``.

    Attributes:
        name (str): The file's name.
        title (str): What is compared.
        metrics (list[str]): As the host logs them, higher is better. The
            differences are of the first.
        seeds (list[int]): One run of each cell for each.
        cells (dict[str, Cell]): By name, in order.
        scale (float): Factor to what the host logs.
        unit (str): Of the scaled metrics.
        scalars (list[str]): Patterns of what training logs
            ('cgnl/*/gradient_share_phi').
        test (bool): Whether the numbers are those of tools/test.py instead
            of the validation's.
        shape (list[int]): Input to count FLOPs of, H W or T H W; empty: what
            tools/get_flops.py takes from the config.
        note (str): Printed under the table.
    """

    name: str
    title: str
    metrics: list
    seeds: list
    cells: dict
    scale: float = 1.0
    unit: str = ''
    scalars: list = field(default_factory=list)
    test: bool = False
    shape: list = field(default_factory=list)
    note: str = ''


GRID_KEYS = (
    'title', 'metrics', 'seeds', 'cells', 'scale', 'unit', 'scalars', 'test',
    'note', 'baseline', 'options', 'shape',
)  # fmt: skip
CELL_KEYS = ('config', 'options', 'baseline', 'published')


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice; YAML keeps the last in silence."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise SetupError(
                    f'line {node.start_mark.line + 1}: {key!r} is there twice'
                )
        return super().construct_mapping(node, deep)


def read_grid(path: str) -> Grid:
    """Read and check a grid file; the configs are not loaded yet.

    Args:
        path (str): A YAML file.

    Returns:
        Grid: The grid.

    Raises:
        SetupError: What is wrong with it, and where.
    """
    file = Path(path)
    if not file.is_file():
        known = {
            p.stem: os.path.relpath(p)
            for p in sorted((ROOT / 'configs/grids').glob('*.yaml'))
        }
        near = difflib.get_close_matches(file.stem, known, n=3)
        hint = ', '.join(known[name] for name in near or known)
        raise SetupError(f'no grid {path!r}. There is {hint}')
    try:
        raw = yaml.load(file.read_text(encoding='utf-8'), _Loader)
        return _grid(file, raw)
    except (yaml.YAMLError, SetupError) as error:
        raise SetupError(f'{path}: {error}') from error


def _require_finite(value, where: str) -> None:
    """Refuse .nan and .inf, which a dumped config would hold as bare names."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SetupError(
            f'{where}: {value} is no setting; a config that needs it says '
            f"float('{value}') itself"
        )
    children = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        _require_finite(child, f'{where}.{key}' if where else str(key))


def _grid(file: Path, raw) -> Grid:
    _require_finite(raw, '')
    _check_keys(raw, GRID_KEYS, 'the grid', ('title', 'metrics', 'cells'))
    metrics = _strings(raw['metrics'], 'metrics')
    if not metrics:
        raise SetupError("'metrics' is empty: nothing to compare")
    seeds = raw.get('seeds', [0, 1, 2, 3, 4])
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(type(s) is not int or s < 0 for s in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise SetupError(
            f"'seeds' must be different whole numbers, got {seeds!r}"
        )
    scale = raw.get('scale', 1)
    if type(scale) not in (int, float) or scale <= 0:
        raise SetupError(f"'scale' must be a positive number, got {scale!r}")
    if type(raw.get('test', False)) is not bool:
        raise SetupError(f"'test' must be true or false, got {raw['test']!r}")
    shape = raw.get('shape', [])
    if not isinstance(shape, list) or any(
        type(n) is not int or n < 1 for n in shape
    ):
        raise SetupError(
            f"'shape' must be a list of sizes in pixels, got {shape!r}"
        )
    if not isinstance(raw['cells'], dict) or not raw['cells']:
        raise SetupError("'cells' must be a mapping of names to cells")
    cells = {
        name: _cell(file, name, cell, raw, len(metrics))
        for name, cell in raw['cells'].items()
    }
    for cell in cells.values():
        if cell.baseline is not None and cell.baseline not in cells:
            raise SetupError(
                f'cell {cell.name}: no cell is called {cell.baseline!r}, its '
                f'baseline; there are {", ".join(cells)}'
            )
    return Grid(
        name=file.stem,
        title=str(raw['title']),
        metrics=metrics,
        seeds=seeds,
        cells=cells,
        scale=float(scale),
        unit=str(raw.get('unit', '')),
        scalars=_strings(raw.get('scalars', []), 'scalars'),
        test=raw.get('test', False),
        shape=shape,
        note=str(raw.get('note', '')).strip(),
    )


def _cell(file: Path, name, raw, grid: dict, num_metrics: int) -> Cell:
    where = f'cell {name}'
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SetupError(
            f'{where}: the name becomes that of a folder: letters, digits '
            'and ._+- only'
        )
    _check_keys(raw, CELL_KEYS, where, ('config',))
    config = file.parent / str(raw['config'])
    if not config.is_file():
        raise SetupError(
            f'{where}: no config {config} (paths count from the grid file)'
        )
    options = {}
    for part in (grid.get('options'), raw.get('options')):
        if not isinstance(part or {}, dict):
            raise SetupError(
                f"{where}: 'options' must be a mapping of dotted keys to "
                f'values, got {part!r}'
            )
        options.update(part or {})
    baseline = raw.get('baseline', grid.get('baseline'))
    published = raw.get('published', {})
    if not isinstance(published, dict):
        raise SetupError(
            f"{where}: 'published' must map a source (paper, ...) to numbers"
        )
    for source, row in published.items():
        if (
            not isinstance(row, list)
            or len(row) != num_metrics
            or any(type(v) not in (int, float, type(None)) for v in row)
        ):
            raise SetupError(
                f"{where}: 'published' of {source!r} must be a list with a "
                f'number (or null) for each of the {num_metrics} metrics, '
                f'got {row!r}'
            )
    return Cell(
        name=name,
        config=config,
        options=options,
        baseline=None if baseline == name else baseline,
        published=published,
    )


def _check_keys(raw, allowed, where: str, required) -> None:
    if not isinstance(raw, dict):
        raise SetupError(f'{where} must be a mapping, got {raw!r}')
    for key in required:
        if key not in raw:
            raise SetupError(f'{where} has no {key!r}')
    for key in raw:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise SetupError(
                f'{where} has an unknown key {key!r}{hint} Allowed: '
                f'{", ".join(allowed)}'
            )


def _strings(value, name: str) -> list:
    if not isinstance(value, list) or any(
        not isinstance(item, str) for item in value
    ):
        raise SetupError(f'{name!r} must be a list of names, got {value!r}')
    return value


def resolve(cell: Cell):
    """Load the config of a cell, bases and all, and apply its options.

    Args:
        cell (Cell): The cell.

    Returns:
        Config: Complete: a later change of a base does not change it.

    Raises:
        SetupError: An option whose parent the config does not have, or that
            does not fit.
        MissingHostError: mmcv or the config's host is not installed.
    """
    cfg = read_config_file(cell.config)
    for key in cell.options:
        _check_option(cfg, key, cell.name)
    try:
        cfg.merge_from_dict(cell.options)
    except (KeyError, TypeError) as error:
        raise SetupError(f'cell {cell.name}: {error.args[0]}') from error
    return cfg


def _check_option(cfg, key: str, name: str) -> None:
    """Refuse an option that would only add something nobody reads."""
    *parents, last = key.split('.')
    if not parents:
        if last not in cfg and last not in NEW_KEYS:
            raise SetupError(f'cell {name}: the config has no {key!r}')
        return
    for index, part in enumerate(parents):
        if isinstance(cfg, (list, tuple)):
            found = part.isdigit() and int(part) < len(cfg)
            cfg = cfg[int(part)] if found else None
        else:
            cfg = cfg.get(part) if hasattr(cfg, 'get') else None
        if cfg is None:
            raise SetupError(
                f'cell {name}: option {key}: the config has no '
                f'{".".join(parents[: index + 1])}'
            )
