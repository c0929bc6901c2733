"""Config files and the options that change them."""

import argparse
import ast
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import MODELS
from yaml import YAMLError

from ..errors import (
    MissingHostError,
    SetupError,
    describe_error,
    hide_passwords,
)
from ..hosts import HOME, HOSTS, require_host
from .lint import did_you_mean, find_mistakes, known_keys, with_type

# What a Runner reads of its `cfg`, beside its own arguments.
BESIDE = ('activation_checkpointing', 'compile', 'custom_imports')
BESIDE += ('detect_anomalous_params', 'efficient_conv_bn_eval')
BESIDE += ('find_unused_parameters', 'model_wrapper_cfg', 'runner_type')
BESIDE += ('sync_bn', 'tta_model', 'tta_pipeline')
# What parsing a file of Python, json or YAML raises.
OF_A_FILE = SyntaxError, ValueError, YAMLError, AttributeError


class PrintedConfig(Config):
    """A config whose text, in logs and in checkpoints, hides passwords."""

    @property
    def pretty_text(self) -> str:
        return hide_passwords(super().pretty_text)


class KeyValueAction(DictAction):
    """Parse ``KEY=VALUE ...``; raise SetupError for any other form."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            raise SetupError(
                f'{option_string} takes KEY=VALUE, got {" ".join(values)}: '
                f'{error}'
            ) from error


def make_parser(text: str, **settings) -> argparse.ArgumentParser:
    """Make the parser of a tool, whose help begins with its docstring.

    Args:
        text (str): The docstring.
        **settings: Other arguments of ArgumentParser.
    """
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        description=text, formatter_class=form, **settings
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a tool that takes a config's network."""
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='change settings of the config: a.b=1 c="[x,y]" d="[(1,2)]" '
        '(quotes around lists, no white space inside)',
    )


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


def load_config(
    path: str | Path, cfg_options: dict | None = None, strict: bool = False
) -> Config:
    """Read a config, merge options into it and look for mistakes.

    Args:
        path (str | Path): The config file.
        cfg_options (dict | None): Values by dotted keys. Keys that are new
            are told.
        strict (bool): Refuse new keys of the top level, and those that are
            nearly known. Defaults to False.

    Raises:
        SetupError: The config does not exist, cannot be merged or has a
            mistake.
        MissingHostError: The host of the config is not installed.
    """
    cfg = read_config_file(path)
    options = cfg_options or {}
    there = {k: with_type(k, value) for k, value in cfg.to_dict().items()}
    parts = {key: _unknown_part(there, key) for key in options}
    new = {key: found for key, found in parts.items() if found}
    for key, (part, others) in new.items() if strict else ():
        near = did_you_mean(part, others)
        if part not in others and (near or key.partition('.')[0] == part):
            raise SetupError(f'{path} has no {key}{near}')
    if new:
        print(
            f'note: {path} has no {", ".join(new)}: the options add it',
            file=sys.stderr,
        )
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise SetupError(f'{path}: {error.args[0]}') from error
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
    path = str(path)
    if not os.path.isfile(path):
        known = [file.name for file in (HOME / 'configs').glob('*.py')]
        near = did_you_mean(os.path.basename(path), known)
        raise SetupError(f'no config {path!r} in {os.getcwd()}{near}')
    try:
        cfg = Config.fromfile(path)
    except (ImportError, SetupError, KeyboardInterrupt) as error:
        # `_base_ = 'mmaction::...'` without mmaction (mmaction2 for pip)
        missing = re.match(r'(\w+?)2? is not installed', str(error))
        if missing is None:  # a module of custom_imports, or Ctrl-C
            raise
        require_host(missing[1])
        raise MissingHostError(
            f'{missing[0]}, and {path} builds on a config of it'
        ) from error
    except BaseException as error:  # a config may raise anything
        raise SetupError(_reading_message(path, error)) from error
    scope = str(cfg.get('default_scope') or 'mmengine')
    require_host(scope)
    if scope not in MODELS.children and not importlib.util.find_spec(scope):
        raise SetupError(
            f'{path}: default_scope={scope!r} is not an installed package; '
            f'this project knows {", ".join(HOSTS)}'
        )
    return cfg


def _reading_message(path: str, error: BaseException) -> str:
    """Say at which line of a config or of its base the reading fails."""
    if isinstance(error, OF_A_FILE) and (found := _fault_of_file(path)):
        return found
    # What runs outside of functions is the config.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if frame.name == '<module>']
    if lines:
        path = f'{lines[-1].filename}, line {lines[-1].lineno}'
    return f'{path}: {describe_error(error)}'


def _fault_of_file(path: str) -> str | None:
    """Say which of a config and its bases cannot be parsed, and where."""
    tree = ast.Module([], [])
    try:
        if path.endswith('.py'):
            tree = ast.parse(Path(path).read_text('utf-8'))
        names = Config._get_base_files(path)  # it parses json and yaml
    except SyntaxError as error:
        return f'{path}, line {error.lineno}: SyntaxError: {error.msg}'
    except OF_A_FILE as error:
        return f'{path}: {describe_error(error)}'
    bases = [Config._get_cfg_path(name, path)[0] for name in names]
    for node in ast.walk(tree):  # of a pure-Python config
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            folder = Path(path).absolute().parents[node.level - 1]
            bases.append(f'{folder / node.module.replace(".", "/")}.py')
    bases = filter(os.path.isfile, map(os.path.normpath, bases))
    return next(filter(None, map(_fault_of_file, bases)), None)


def _unknown_part(cfg: dict, key: str) -> tuple[str, list[str]] | None:
    """Find the part of a dotted key ('a.b.0.c') that nothing knows.

    Returns:
        tuple[str, list[str]] | None: The part, and what could be in its
        place; None if the key is known.
    """
    others = [*cfg, *known_keys(), *BESIDE]
    if key.partition('.')[0] in BESIDE or key in others:
        return None
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)):
            cfg = {str(index): value for index, value in enumerate(cfg)}
        if not isinstance(cfg, dict):
            return part, []
        if part not in cfg:
            # find_mistakes knows the arguments of a type
            return None if 'type' in cfg else (part, others)
        cfg = cfg[part]
        others = [*cfg] if isinstance(cfg, dict) else []
    return None
