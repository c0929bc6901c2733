"""Find mistakes in a config before anything is built.

MMEngine passes over some of them in silence, and answers others with a
traceback after the data were read. Nothing here looks at a traceback.
"""

import difflib
import importlib
import inspect
import math
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..errors import fits
from ..insertion.key import misplaced, our_entries

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Keys that a registry or the owner of an object takes out before it is built.
TAKEN_OUT = {'type', '_scope_', 'priority', 'requires_grad', 'constructor'}
TAKEN_OUT |= {'paramwise_cfg', 'convert_to_iter_based', 'by_epoch'}
TAKEN_OUT |= {'pretrained', 'magnitude_key', 'deformable_groups'}
TAKEN_OUT |= {'bg_cls_weight', 'plugins', 'num_batch_per_epoch'}
# Settings below which a run ends in a traceback, or does nothing at all.
LEAST = dict(batch_size=1, num_workers=0, max_epochs=1, max_iters=1)
LEAST |= dict(val_interval=1, accumulative_counts=1, lr=0, seed=0)
# Keys of dicts whose `type` no registry looks up.
FREE = ('nms', 'metainfo', 'file_client_args', 'backend_args')
# The registries that build the dicts at a path, where the path decides it.
# Elsewhere an owner may look a name up in a table of its own.
PARTS = r'backbone|neck|(cls_|decode_|rpn_|roi_|bbox_|mask_)?head'
SECTIONS = {
    rf'model|model\.({PARTS})': ('model',),
    r'\w+_dataloader(\.dataset|\.datasets)+': ('dataset',),
    r'.*\.pipeline': ('transform',),
    r'\w+_dataloader\.sampler': ('data sampler',),
    r'default_hooks\.\w+|custom_hooks': ('hook',),
    r'optim_wrapper': ('optim_wrapper',),
    r'optim_wrapper\.optimizer': ('optimizer',),
    r'param_scheduler': ('parameter scheduler',),
    r'\w+_evaluator': ('metric', 'evaluator'),
}


def find_mistakes(cfg: Config) -> Iterator[str]:
    """Yield the mistakes of a config, each as one line.

    Args:
        cfg (Config): Merged with its bases and options.
    """
    for key in cfg.keys() - known_keys():
        near = did_you_mean(key, known_keys(), cutoff=0.9)
        if near and not key.startswith('_'):
            yield (
                f'nothing reads the key {key!r} of {cfg.filename}{near} A '
                'variable of your own needs another name'
            )
    if cfg.get('plugins') and "'plugins'" not in str(cfg.get('model')):
        yield (
            f'nothing reads `plugins` of {cfg.filename}, so no block would be '
            'built: it belongs into model=dict(backbone=dict(plugins=...))'
        )
    yield from _wrong_values(cfg)
    scope = cfg.get('default_scope') or 'mmengine'
    makers_of.cache_clear()  # reading the config may have registered more
    makers_of(scope, None)  # first: a host may register with another host
    for key in known_keys():
        yield from _walk(with_type(key, cfg.get(key)), key, scope)


def known_keys() -> list[str]:
    """List the top-level keys that the Runner reads."""
    return [n for n in inspect.signature(Runner).parameters if n != 'cfg']


def with_type(key: str, value: Any) -> Any:
    """Return the value of a top-level key with the type that it implies."""
    if key == 'train_cfg' and isinstance(value, dict) and 'type' not in value:
        loop = 'Epoch' if value.get('by_epoch', True) else 'Iter'
        return dict(value, type=f'{loop}BasedTrainLoop')
    if key in LOADERS and isinstance(value, dict):
        return dict(value, type=DataLoader)
    return value


# ---- the values of the top level


def _wrong_values(cfg: Config) -> Iterator[str]:
    """Compare values with the Runner's annotations."""
    hints = typing.get_type_hints(Runner.__init__)
    hints['log_level'] = typing.Union[str, int]  # as its docstring says
    hints['default_hooks'] = dict  # None leaves a hook out
    for key, hint in hints.items():
        value = cfg.get(key)
        if value is not None and key != 'cfg' and not fits(value, hint):
            kind = inspect.formatannotation(hint)
            yield f'{key} must be {kind}, got {value!r}'[:300]


# ---- types and arguments


def _walk(value: Any, path: str, scope: str) -> Iterator[str]:
    """Yield the unknown types and arguments below one key of a config."""
    if isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _walk(child, f'{path}.{index}', scope)
    elif isinstance(value, dict) and path.rpartition('.')[2] not in FREE:
        scope = value.get('_scope_') or scope
        yield from _wrong_object(value, path, scope)
        yield from _unread_plugins(value, path, scope)
        for key, child in value.items():
            least = LEAST.get(key) if isinstance(child, (int, float)) else None
            if least is not None and not child >= least:  # or NaN
                yield f'{path}: {key} must be {least} or more, got {child}'
            yield from _walk(child, f'{path}.{key}', scope)


def _wrong_object(cfg: dict, path: str, scope: str) -> Iterator[str]:
    """Check the type and the arguments of one dict."""
    kind = cfg.get('type')
    makers = (kind,) if callable(kind) else ()
    if isinstance(kind, str):
        prefix, _, name = kind.rpartition('.')
        scope = prefix or scope
        section = _section(path)
        known = makers_of(scope, section)
        makers = known.get(name, ())
        # MMEngine alone registers too little to judge a config without scope
        if section and known and not makers and scope != 'mmengine':
            yield (
                f'{path}.type: no {section[0]} {name!r} is registered with '
                f'{scope}{did_you_mean(name, known) or "."} A class of your '
                'own is registered by custom_imports'
            )
    # An owner takes arguments of its own out of its `..._cfg`.
    if makers and not re.search(r'\.\w*_cfg$', path):
        faults = [list(_wrong_arguments(maker, cfg, path)) for maker in makers]
        yield from min(faults, key=len)
    if kind == 'Pretrained' and 'init_cfg' in path:
        yield from _missing_weights(cfg.get('checkpoint'), path)


def _unread_plugins(cfg: dict, path: str, scope: str) -> Iterator[str]:
    """Look for our plugins in a dict that its owner builds by itself."""
    kind, ours = cfg.get('type'), our_entries(cfg)
    prefix, _, name = str(kind).rpartition('.')
    scope = prefix or scope
    if not ours or not path.startswith('model.') or scope == 'mmengine':
        return
    known = makers_of(scope, ('model',))
    # The registry of a stranger may stand where makers_of does not look.
    seen = known or scope not in mmengine.registry.MODELS.children
    if seen and not callable(kind) and name not in known:
        yield misplaced(path, path.rpartition('.')[2], ours[0])


def _section(path: str) -> tuple[str, ...] | None:
    """Return the names of the registries for a path that decides them."""
    path = re.sub(r'\.\d+', '', path)
    for pattern, registries in SECTIONS.items():
        if re.fullmatch(pattern, path):
            return registries
    return None


def _wrong_arguments(maker: Callable, cfg: dict, path: str) -> Iterator[str]:
    """Yield the arguments that a class does not take, or not as text."""
    taken, is_open = parameters_of(maker)
    label = getattr(maker, '__name__', str(maker))
    for key, value in cfg.items():
        if key in taken:
            if _is_number(taken[key]) and _is_numeric_text(value):
                yield (
                    f'{path}: {key}={value!r} of {label} is text: write '
                    f'{key}={value}'
                )
        elif key not in TAKEN_OUT:
            near = did_you_mean(key, taken, cutoff=0.85 if is_open else 0.6)
            if near or not is_open:
                yield (
                    f'{path}: {label} does not take the argument '
                    f'{key!r}{near or "."} It takes {", ".join(taken)}'
                )


def _missing_weights(name: Any, path: str) -> Iterator[str]:
    """Check that a checkpoint file, or a name of torchvision's, is there."""
    if not isinstance(name, str) or not name:  # to be filled in
        return
    if name.startswith('torchvision://'):
        from mmengine.runner.checkpoint import get_torchvision_models

        known = get_torchvision_models()
        if name[14:] not in known:
            near = did_you_mean(name[14:], known)
            yield f'{path}: {name!r} does not name any known weights{near}'
    elif '://' not in name and not os.path.isfile(name):
        yield f'{path}: no file {name!r} in {os.getcwd()}'


# ---- what is registered


@lru_cache(maxsize=None)
def makers_of(
    scope: str, kinds: tuple[str, ...] | None
) -> dict[str, list[Callable]]:
    """Collect what a scope and the scopes above it register, by name.

    Args:
        scope (str): A package, such as 'mmpretrain'.
        kinds (tuple[str] | None): Names of registries, such as 'model'; None
            takes all registries together.
    """
    found = {}
    for registry in _registries(scope):
        if kinds is not None and registry.name not in kinds:
            continue
        while registry is not None:
            if registry.scope == scope:
                _import(registry)
            for name, maker in registry.module_dict.items():
                found.setdefault(name, []).append(maker)
            registry = registry.parent
    return found


def _import(registry: Registry) -> None:
    """Import what a registry is filled by; some hosts name wrong modules."""
    with DefaultScope.overwrite_default_scope(registry.scope):
        with suppress(ImportError):
            registry.import_from_location()


def _registries(scope: str) -> list[Registry]:
    """List the registries of a scope, and MMEngine's of other kinds."""
    try:
        module = importlib.import_module(f'{scope}.registry')
    except ImportError:
        return []
    found = {}
    for source in mmengine.registry, module:
        for value in vars(source).values():
            if isinstance(value, Registry):
                found[value.name] = value
    return list(found.values())


def parameters_of(maker: Callable) -> tuple[dict[str, Any], bool]:
    """Collect the parameters of a class, behind ``**kwargs`` too.

    Returns:
        tuple[dict, bool]: The parameters by name, and whether others may be
        taken: ``**kwargs`` need not go to the class above.
    """
    found, is_open = {}, False
    for base in inspect.getmro(maker) if inspect.isclass(maker) else (maker,):
        function = (
            base.__dict__.get('__init__') if inspect.isclass(base) else base
        )
        if function is None or base is object:
            continue
        try:
            own = inspect.signature(function).parameters
        except (TypeError, ValueError):  # written in C
            return found, True
        kinds = {parameter.kind for parameter in own.values()}
        for name, parameter in own.items():
            if parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                found.setdefault(name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
        is_open = True
    found.pop('self', None)
    return found, is_open


def did_you_mean(name: str, known: Iterable[str], cutoff=0.6) -> str:
    """Suggest the nearest known names in a sentence, or return ''."""
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, 3, cutoff)
    found = [lower[other] for other in near]
    return f'; did you mean {" or ".join(found)}?' if near else ''


def _is_number(parameter: inspect.Parameter) -> bool:
    hint, default = parameter.annotation, parameter.default
    return hint in (int, float) or (
        isinstance(default, (int, float)) and not isinstance(default, bool)
    )


def _is_numeric_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False
