"""Read a grid: the configs to train, the seeds, and the comparisons."""

import difflib
import inspect
import json
import os
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from ..errors import SetupError
from ..hosts import HOME

NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
LARGEST = 100_000  # values in a grid; aliases may repeat lists of aliases
# A run may have these keys although its config lacks them.
NEW_KEYS = (
    'auto_scale_lr', 'custom_hooks', 'find_unused_parameters',
    'model_wrapper_cfg', 'randomness',
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """Describe one line of the table: a config and what is changed in it.

    Attributes:
        name (str): The name, which is part of a path.
        config (Path): The config.
        options (dict): Dotted keys and values, as for ``--cfg-options``.
        baseline (str | None): The cell that it is compared with.
        published (dict): For each source ('paper', ...), one number for each
            metric of the grid; None: not published.
    """

    name: str
    config: str | Path
    options: dict[str, Any] | None = None
    baseline: str | None = None
    published: dict[Any, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Describe a grid file; see ``configs/grids/README.md``.

    Attributes:
        file (str): The path of the file.
        title (str): What is compared.
        metrics (list[str]): Names that the host logs; higher is better. The
            first metric is the one that cells are compared by.
        cells (dict[str, Cell]): The cells by name, in order.
        seeds (list[int]): Each cell is trained once with each seed.
        scale (float): Factor to what the host logs.
        unit (str): Unit of the scaled metrics.
        scalars (list[str]): Patterns of the names of logged scalars
            ('cgnl/*/gradient_share_phi').
        test (bool): Whether tools/test.py measures the metrics, in place of
            the validation.
        shape (list[int]): Input to count FLOPs of, H W or T H W; empty:
            what tools/get_flops.py takes from the config.
        note (str): Text below the table.
        baseline (str | None): The baseline of cells that name none.
        options (dict | None): Options of all cells.

    Raises:
        SetupError: A value does not fit.
    """

    file: str
    title: str
    metrics: list[str]
    cells: dict[str, Any]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    scale: float = 1.0
    unit: str = ''
    scalars: list[str] = field(default_factory=list)
    test: bool = False
    shape: list[int] = field(default_factory=list)
    note: str = ''
    baseline: str | None = None
    options: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Return the name of the file without its suffix."""
        return Path(self.file).stem

    def __post_init__(self) -> None:
        seeds = self.seeds
        if not self.metrics or not self.cells:
            raise SetupError("'metrics' or 'cells' is empty")
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise SetupError(f'seeds {seeds}: name each once, from 0 on')
        if self.scale <= 0 or min(self.shape, default=1) <= 0:
            raise SetupError("'scale' and 'shape' must be positive")
        for cell in self.cells.values():
            if cell.baseline is not None and cell.baseline not in self.cells:
                raise SetupError(
                    f'cell {cell.name}: no cell is called {cell.baseline!r}, '
                    f'its baseline; there are {", ".join(self.cells)}'
                )
            for source, row in cell.published.items():
                if len(row) != len(self.metrics):
                    raise SetupError(
                        f"cell {cell.name}: 'published' of {source!r} must "
                        'have a number (or null) for each of the '
                        f'{len(self.metrics)} metrics, got {row!r}'
                    )


class _Loader(yaml.SafeLoader):
    """Refuse a key that stands twice; YAML would keep the last in silence."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if key.value != '<<']
        for key in keys:
            if keys.count(key) > 1:
                raise SetupError(
                    f'line {node.start_mark.line + 1}: {key!r} is there '
                    'twice; remove one'
                )
        return node


def read_grid(path: str, seeds: list[int] | None = None) -> Grid:
    """Read and check a grid file; the configs are not loaded yet.

    Args:
        path (str): A YAML file.
        seeds (list[int] | None): Seeds in place of the file's.

    Returns:
        Grid: The grid.

    Raises:
        SetupError: What is wrong with the file, and where.
    """
    file = Path(path)
    if not file.is_file():
        files = sorted((HOME / 'configs/grids').glob('*.yaml'))
        known = {p.stem: os.path.relpath(p) for p in files}
        near = difflib.get_close_matches(file.stem, known, n=3)
        hint = ', '.join(known[name] for name in near or known)
        raise SetupError(f'no grid {path!r}. There is {hint}')
    try:
        # PyYAML finds out whether the bytes are UTF-8 or UTF-16.
        raw = yaml.load(file.read_bytes(), _Loader)
        if _count_values(raw, {}) > LARGEST:
            raise SetupError(f'its aliases stand for over {LARGEST:,} values')
        # It refuses .nan, .inf, and an alias inside of what it repeats.
        json.dumps(raw, default=str, allow_nan=False)
        return _make_grid(file, raw, seeds)
    except (
        OSError,
        ValueError,
        RecursionError,
        yaml.YAMLError,
        SetupError,
    ) as error:
        raise SetupError(f'{path}: {" ".join(str(error).split())}') from error


def _count_values(value, known: dict[int, int]) -> int:
    """Count the values of a tree, those that aliases repeat each time."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # inside of itself
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(x, known) for x in inner)
    return known[id(value)]


def _make_grid(file: Path, raw, seeds: list[int] | None) -> Grid:
    _check_keys(raw, Grid, 'the grid')
    cells = {name: _make_cell(file, name, raw) for name in raw['cells']}
    given = {} if seeds is None else dict(seeds=seeds)
    return Grid(**{'file': str(file), **raw, 'cells': cells, **given})


def _make_cell(file: Path, name: str, grid: dict) -> Cell:
    raw, where = grid['cells'][name], f'cell {name}'
    if not NAME.fullmatch(name):
        raise SetupError(
            f'{where}: the name becomes that of a folder: letters, digits '
            'and ._+- only'
        )
    _check_keys(raw, Cell, where)
    config = file.parent / raw['config']
    if not config.is_file():
        raise SetupError(
            f'{where}: no config {config} (paths count from the grid file)'
        )
    baseline = raw.get('baseline', grid.get('baseline'))
    changed = dict(
        config=config,
        options={**(grid.get('options') or {}), **(raw.get('options') or {})},
        baseline=None if baseline == name else baseline,
    )
    return Cell(**{'name': name, **raw, **changed})


def _check_keys(raw, kind: type, where: str) -> None:
    """Compare a mapping of a file with the attributes of a class."""
    if not isinstance(raw, dict):
        raise SetupError(f'{where} must be a mapping, got {raw!r}')
    # The first attribute is not a key of the mapping.
    known = {f.name: f for f in fields(kind)[1:]}
    for key, f in known.items():
        required = f.default is MISSING and f.default_factory is MISSING
        if required and key not in raw:
            raise SetupError(f'{where} has no {key!r}')
    for key, value in raw.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else '.'
            raise SetupError(
                f'{where} has an unknown key {key!r}{hint} Allowed: '
                f'{", ".join(known)}'
            )
        if not _fits(value, known[key].type):
            kind = inspect.formatannotation(known[key].type)
            raise SetupError(f'{where}: {key!r} must be {kind}, got {value!r}')


def _fits(value, kind) -> bool:
    """Tell whether a value of a file has a type, as ``list[int]``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, member) for member in args)
    if origin is list:
        return type(value) is list and all(_fits(v, *args) for v in value)
    if origin is dict:
        items = value.items() if type(value) is dict else [(None, None)]
        return all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in items)
    if kind is float:
        return type(value) in (int, float)
    return kind is Any or type(value) is kind


def apply_options(cell: Cell, cfg) -> None:
    """Change a loaded config as a cell says.

    Args:
        cell (Cell): The cell.
        cfg (Config): The cell's config, which changes.

    Raises:
        SetupError: The config has no place for an option, or the option does
            not fit.
    """
    for key in cell.options:
        _require_place(cfg, key, cell.name)
    try:
        cfg.merge_from_dict(cell.options)
    except (KeyError, TypeError) as error:
        raise SetupError(f'cell {cell.name}: {error.args[0]}') from error


def _require_place(cfg, key: str, name: str) -> None:
    """Refuse an option that would only add what nobody reads."""
    *parents, last = key.split('.')
    if not parents and last not in cfg and last not in NEW_KEYS:
        raise SetupError(f'cell {name}: the config has no {key!r}')
    for index, part in enumerate(parents, 1):
        if isinstance(cfg, (list, tuple)):
            cfg = {str(place): value for place, value in enumerate(cfg)}
        cfg = cfg.get(part) if hasattr(cfg, 'get') else None
        if cfg is None:
            raise SetupError(
                f'cell {name}: option {key}: the config has no '
                f'{".".join(parents[:index])}'
            )
