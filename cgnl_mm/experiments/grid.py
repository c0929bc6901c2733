"""Read a grid: the configs to train, the seeds, and the comparisons."""

import inspect
import json
import os
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import SetupError, fits
from ..hosts import HOME

NAME = re.compile(r'\w[\w.+-]*')


@dataclass(frozen=True)
class Cell:
    """Describe one line of the table: a config and what is changed in it.

    Attributes:
        name (str): The name, which is that of a folder, too.
        config (Path): The config.
        options (dict): Dotted keys and values, as for ``--cfg-options``.
        baseline (str | None): The cell that it is compared with.
        published (dict): For each source ('paper', ...), one number for each
            metric of the grid; None: not published.
    """

    name: str
    config: str | Path
    options: dict[str, Any] = field(default_factory=dict)
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
        options (dict): Options of all cells.

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
    options: dict[str, Any] = field(default_factory=dict)

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
        there = ', '.join(map(os.path.relpath, files))
        raise SetupError(f'no grid {path!r}. There is {there}')
    try:
        # PyYAML finds out whether the bytes are UTF-8 or UTF-16.
        raw = yaml.load(file.read_bytes(), _Loader)
        # ValueError: an alias that holds itself; NaN and infinity
        json.dumps(raw, default=str, allow_nan=False)
        return _make_grid(file, raw, seeds)
    except (OSError, ValueError, yaml.YAMLError, SetupError) as error:
        raise SetupError(f'{path}: {" ".join(str(error).split())}') from error


def _make_grid(file: Path, raw, seeds: list[int] | None) -> Grid:
    _check_keys(raw, Grid, 'the grid')
    cells = {name: _make_cell(file, name, raw) for name in raw['cells']}
    given = {} if seeds is None else dict(seeds=seeds)
    return Grid(**{'file': str(file), **raw, 'cells': cells, **given})


def _make_cell(file: Path, name: str, grid: dict) -> Cell:
    raw, where = grid['cells'][name], f'cell {name}'
    if not NAME.fullmatch(str(name)):
        raise SetupError(
            f'{where}: a name of letters, digits, "_", "-", "." and "+" is '
            'needed; it names a folder'
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
        options={**grid.get('options', {}), **raw.get('options', {})},
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
            allowed = ', '.join(known)
            raise SetupError(f'{where} has no key {key!r}, only {allowed}')
        if not fits(value, known[key].type):
            kind = inspect.formatannotation(known[key].type)
            raise SetupError(f'{where}: {key!r} must be {kind}, got {value!r}')
