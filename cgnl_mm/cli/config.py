"""Config files and the options that change them."""

import argparse
import difflib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import MODELS

from ..errors import MissingHostError, SetupError, hide_passwords
from ..hosts import HOME, HOSTS, require_host
from .lint import find_mistakes

# a key that is a list in the base config and a dict in the config over it
REPLACED = re.compile(r"(\w+)=.* of type <class '(list|tuple)'>", re.DOTALL)


class PrintedConfig(Config):
    """A config whose text, in logs and in checkpoints, hides passwords."""

    @property
    def pretty_text(self) -> str:
        return hide_passwords(super().pretty_text)


class KeyValueAction(DictAction):
    """Parse ``KEY=VALUE ...``; raise SetupError for any other form."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            key, equals, _ = value.partition('=')
            if not key or not equals:
                raise SetupError(
                    f'{option_string} takes KEY=VALUE, got {value!r}'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:
            raise SetupError(
                f'{option_string} {" ".join(values)}: {error}'
            ) from error


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options KEY=VALUE ...``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='change settings of the config: a.b=1 c="[x,y]" d="[(1,2)]" '
        '(quotes around lists, no white space inside)',
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a tool that takes a config's network."""
    parser.add_argument('config', help='path of the config')
    add_config_options(parser)


def add_shape_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--shape``, the size of one image or clip."""
    parser.add_argument(
        '--shape',
        nargs='+',
        type=int,
        metavar='N',
        help='size of one image, H W, or of one clip, T H W; default: what '
        "the config's test pipeline makes",
    )


def load_config(path: str | Path, cfg_options: dict | None = None) -> Config:
    """Read a config, merge options into it and look for mistakes.

    Args:
        path (str | Path): The config file.
        cfg_options (dict | None): The values of ``--cfg-options``.

    Raises:
        SetupError: The config does not exist, cannot be merged or has a
            mistake.
        MissingHostError: The host of the config is not installed.
    """
    cfg = read_config_file(path)
    merge_options(cfg, cfg_options)
    for mistake in find_mistakes(cfg):
        raise SetupError(mistake)
    # Config has its own __setattr__
    object.__setattr__(cfg, '__class__', PrintedConfig)
    return cfg


def read_config_file(path: str | Path) -> Config:
    """Read a config with its bases.

    Args:
        path (str | Path): The config file.

    Raises:
        SetupError: The file does not exist, cannot be read, or names a
            default scope that no installed package registers.
        MissingHostError: The host of the config is not installed.
    """
    path = find_config(str(path))
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
        raise
    except (ImportError, SetupError):  # of a module of custom_imports
        raise
    except Exception as error:
        raise SetupError(_reading_message(path, error)) from error
    scope = cfg.get('default_scope')
    if scope is not None:
        require_host(scope)
        _require_scope(scope, path)
    return cfg


def _reading_message(path: str, error: Exception) -> str:
    """Say where a config or a base of it fails."""
    text = ' '.join(str(error.args[0] if error.args else error).split())
    files = [str(file) for file in config_files(Path(path))]
    for file in files:
        try:
            compile(Path(file).read_bytes(), file, 'exec')
        except OSError:
            break
        except (SyntaxError, ValueError) as fault:
            where = os.path.relpath(file)
            if getattr(fault, 'lineno', None):
                where += f', line {fault.lineno}'
            return f'{where}: {getattr(fault, "msg", fault)}'
    if isinstance(error, OSError) and error.filename:
        base = os.path.normpath(error.filename)
        return f'{path}: its `_base_` {base!r}: {error.strerror}'
    key = REPLACED.match(text)
    if key:
        return (
            f'{path}: {key[1]} is a {key[2]} in the base config and a '
            f'dict here: write the whole {key[2]}, {key[1]}=[dict(...)]'
        )
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if os.path.realpath(frame.filename) in files:
            return (
                f'{frame.filename}, line {frame.lineno}: '
                f'{type(error).__name__}: {text[:300]}'
            )
    return f'{path}: {text[:500]}'


def _require_scope(scope: str, path: str) -> None:
    """Raise SetupError for a default scope that nothing registers."""
    if scope == 'mmengine' or scope in MODELS.children:
        return
    if importlib.util.find_spec(scope) is None:
        known = ', '.join(HOSTS)
        raise SetupError(
            f'{path}: default_scope={scope!r} is not an installed package; '
            f'this project knows {known}'
        )


def find_config(path: str) -> str:
    """Return ``path`` if it is a file; else suggest one that is.

    Raises:
        SetupError: There is no such file.
    """
    if os.path.isfile(path):
        return path
    known = {
        file.stem: os.path.relpath(file)
        for file in sorted((HOME / 'configs').glob('*.py'))
    }
    near = difflib.get_close_matches(Path(path).stem, known, n=3)
    hint = ', '.join(known[name] for name in near) or 'a file of configs/'
    raise SetupError(
        f'no config {path!r} in {os.getcwd()}. Did you mean {hint}?'
    )


def config_files(path: Path) -> Iterator[Path]:
    """Yield a config and its local bases, as real paths."""
    files = [path.resolve()]
    for file in files:
        yield file
        text = file.read_text(encoding='utf-8', errors='replace')
        for name in re.findall(r"""['"]([^'":]+\.py)['"]""", text):
            base = (file.parent / name).resolve()
            if base.is_file() and base not in files:
                files.append(base)  # read in its turn


def external_scopes(path: Path) -> Iterator[str]:
    """Yield the names X of all 'X::...' in a config and its local bases."""
    for file in config_files(path):
        text = file.read_text(encoding='utf-8', errors='replace')
        yield from re.findall(r"""['"](\w+)::""", text)


def merge_options(cfg: Config, options: dict | None) -> None:
    """Merge ``--cfg-options`` into a config; say which keys are new.

    Raises:
        SetupError: They cannot be merged.
    """
    options = options or {}
    new = [key for key in options if not _has_key(cfg, key)]
    if new:
        print(
            f'note: --cfg-options adds {", ".join(new)}: the config had no '
            'such key',
            file=sys.stderr,
        )
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise SetupError(f'--cfg-options: {error.args[0]}') from error


def _has_key(cfg, key: str) -> bool:
    """Whether the dotted ``key`` ('a.b.0.c') leads to something in cfg."""
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)):
            if not part.isdigit() or int(part) >= len(cfg):
                return False
            cfg = cfg[int(part)]
        elif hasattr(cfg, 'keys') and part in cfg.keys():
            cfg = cfg[part]
        else:
            return False
    return True
