"""Mistakes in a config that MMEngine does not see, or sees late."""

import difflib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

WORDS = {bool: 'True or False', str: 'text', dict: 'a dict', list: 'a list'}

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def find_mistakes(cfg) -> Iterator[str]:
    """Say what of a config nothing reads, or has the wrong type.

    Args:
        cfg (Config): Merged with its bases and options.

    Yields:
        str: One mistake.
    """
    for key, near in unread_keys(cfg).items():
        yield (
            f'nothing reads the key {key!r} of {cfg.filename}: did you mean '
            f'{near!r}? A variable of your own needs another name'
        )
    if cfg.get('plugins') and not _holds_key(cfg.get('model'), 'plugins'):
        yield (
            f'nothing reads `plugins` of {cfg.filename}, so no block would be '
            'built: it belongs into model=dict(backbone=dict(plugins=...))'
        )
    resume = cfg.get('resume')
    if isinstance(resume, str):
        yield (
            f'resume={resume!r}: MMEngine takes True or False here and would '
            f'start anew. To go on from that file: `tools/train.py '
            f'{cfg.filename} --resume {resume}`, or resume=True and '
            f'load_from={resume!r} in the config'
        )
    for key, phrase in misfits(cfg).items():
        yield f'{key} must be {phrase}, got {cfg[key]!r}'[:300]
    for name in LOADERS:
        loader = cfg.get(name)
        if isinstance(loader, dict):
            workers = loader.get('num_workers', 0)
            if not isinstance(workers, int):
                yield f'{name}.num_workers must be a number, got {workers!r}'


def unread_keys(cfg) -> 'dict[str, str]':
    """Find keys of a config that look like misspelt ones of the Runner.

    Args:
        cfg (Config): Merged with its bases.

    Returns:
        dict[str, str]: The key that was probably meant, by the one there.
    """
    from mmengine.runner import Runner

    known = [n for n in inspect.signature(Runner).parameters if n != 'cfg']
    found = {}
    for key in cfg:
        if key not in known and not key.startswith('_'):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.9)
            if near:
                found[key] = near[0]
    return found


def misfits(cfg) -> 'dict[str, str]':
    """Find values that are not what the Runner's annotations ask for.

    Args:
        cfg (Config): Merged with its bases.

    Returns:
        dict[str, str]: What is asked for, by the key.
    """
    from mmengine.runner import Runner

    hints = typing.get_type_hints(Runner.__init__)
    hints['log_level'] = typing.Union[str, int]  # says its docstring
    return {
        key: _phrase(hint)
        for key, hint in hints.items()
        if key in cfg and key != 'cfg' and not _fits(cfg[key], hint)
    }


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; None always is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if value is None or hint is Any:
        return True
    if origin is typing.Union:
        return any(_fits(value, arg) for arg in args)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(
            _fits(item, arg) for item in value for arg in args
        )
    kind = origin or hint
    return not inspect.isclass(kind) or isinstance(value, kind)


def _phrase(hint: Any) -> str:
    """An annotation in words, without the classes that no config holds."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        parts = [_phrase(arg) for arg in args if arg is not type(None)]
        return ' or '.join(dict.fromkeys(filter(None, parts)))
    if origin is list and args and not isinstance(args[0], typing.TypeVar):
        return f'a list (in [ ]), each item {_phrase(args[0])}'
    return WORDS.get(origin or hint, '')


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds_key(v, key) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_key(v, key) for v in value)
    return False
