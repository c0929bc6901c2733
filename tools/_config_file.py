"""A config file read as its users want to be told what is wrong with it."""

import difflib
import importlib.util
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def read_config_file(path):
    """Read a config, bases and all, after the hosts were repaired.

    Args:
        path (str | Path): The file.

    Returns:
        Config: Its default scope, if it has one, is there.

    Raises:
        SetupError: There is no such file, or nothing registers its scope.
        MissingHostError: mmcv or the config's host is not installed.
    """
    from cgnl_mm.errors import MissingHostError
    from cgnl_mm.hosts import require_host, require_mmcv

    require_mmcv()
    path = find_config(str(path))
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        # `_base_ = 'mmaction::...'` without mmaction
        for scope in external_scopes(Path(path)):
            require_host(scope)
            if importlib.util.find_spec(scope) is None:
                raise MissingHostError(
                    f'{scope} is not installed, and {path} builds on a '
                    'config of it'
                ) from error
        raise error
    scope = cfg.get('default_scope')
    if scope is not None:
        require_host(scope)
        _require_scope(scope, path)
    return cfg


def _require_scope(scope: str, path: str) -> None:
    """Raise SetupError for a default scope that nothing registers."""
    from mmengine.registry import MODELS

    from cgnl_mm.errors import SetupError
    from cgnl_mm.hosts import HOSTS

    if scope == 'mmengine' or scope in MODELS.children:
        return
    if importlib.util.find_spec(scope) is None:
        known = ', '.join(HOSTS)
        raise SetupError(
            f'{path}: default_scope={scope!r} is no package that is '
            f'installed; this project knows {known}'
        )


def find_config(path: str) -> str:
    """Return ``path`` if it is a file; else suggest one that is.

    Raises:
        SetupError: There is no such file.
    """
    from cgnl_mm.errors import SetupError

    if os.path.isfile(path):
        return path
    known = {
        file.stem: os.path.relpath(file)
        for file in sorted((ROOT / 'configs').glob('*.py'))
    }
    near = difflib.get_close_matches(Path(path).stem, known, n=3)
    hint = ', '.join(known[name] for name in near) or 'a file of configs/'
    raise SetupError(
        f'no config {path!r} in {os.getcwd()}. Did you mean {hint}?'
    )


def external_scopes(path: Path) -> list[str]:
    """Names X of all 'X::...' in a config and in its local bases."""
    found, files = [], [path.resolve()]
    for file in files:
        text = file.read_text(encoding='utf-8')
        found += re.findall(r"""['"](\w+)::""", text)
        for name in re.findall(r"""['"]([^'":]+\.py)['"]""", text):
            base = (file.parent / name).resolve()
            if base.is_file() and base not in files:
                files.append(base)  # read in its turn
    return found
