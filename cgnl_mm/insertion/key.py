"""The key `plugins` of any module that a registry of models builds."""

import inspect
from typing import Any, Callable, Dict, List, Tuple

from mmengine.registry import MODELS
from torch import nn

from ..errors import ConfigError
from .arrangement import Arrangement
from .frames import teach
from .initialization import guard, is_block, own_random_state
from .insert import insert_block
from .places import find_places, find_units
from .record import Recorder

PLACES = {'after', 'after_blocks'}
ARRANGEMENT = ('axes', 'frames', 'flat')
KEYS = {'cfg', 'name', 'allow_frozen', *ARRANGEMENT} | PLACES
# What mmaction2's SlowFast calls the modules of these dicts.
ATTRIBUTES = dict(slow_pathway='slow_path', fast_pathway='fast_path')


def insert_plugins(network: nn.Module, plugins: List[dict]) -> None:
    """Build blocks, and insert them into a network.

    Args:
        network (Module): A built network; changed in place.
        plugins (list[dict]): Keys of each:

            - cfg (dict): Config of any registered block; ``in_channels`` is
              filled in.
            - after (str | Sequence[str]): Dotted paths of the modules that
              the block follows. ``*`` stands for one name, and a negative
              integer counts from the last child: 'layer3.-2' is the author's
              place, 'layer3.*' means every unit. Paths mean the network
              before any insertion.
            - after_blocks (Sequence[Sequence[int]]): In place of ``after``,
              for a ResNet: for each stage, the units that the block follows.
            - name (str): Stem of the block's name; needed for a second
              block of one type at one place.
            - allow_frozen (bool): Whether the network may freeze the block,
              for weights that come trained. Defaults to False.
            - axes, frames, flat: See :class:`Arrangement`.

    Raises:
        ConfigError: (a ValueError) If an entry does not fit; the message
            names the value and what is allowed.
    """
    owner = type(network).__name__
    wanted = []
    for index, plugin in enumerate(plugins):
        where = f'{owner} plugins[{index}]'
        _check_keys(plugin, where)
        try:
            if 'after' in plugin:
                paths = find_places(network, plugin['after'])
            else:
                paths = find_units(network, plugin['after_blocks'])
        except ConfigError as error:
            raise ConfigError(f'{where}: {error}') from error
        wanted += [(f'{where}, after {p!r}', p, plugin) for p in paths]
    recorder = Recorder(network, [path for _, path, _ in wanted])
    for where, path, plugin in wanted:
        try:
            given = {k: plugin[k] for k in ARRANGEMENT if k in plugin}
            place = recorder.look(path, Arrangement(**given))
            if not (place.shape or plugin['cfg'].get('in_channels')):
                raise ConfigError(
                    f'no trial run reached the place ({recorder.reason}); '
                    'give in_channels in the cfg of the block'
                )
            block = _build_block(plugin['cfg'], place)
            settings = plugin.get('name'), plugin.get('allow_frozen', False)
            insert_block(network, place, block, *settings)
        except ConfigError as error:
            raise ConfigError(f'{where}: {error}') from error


def build(make: Callable[[Any], Any], cfg: Any) -> Any:
    """Build what a config describes, and insert its blocks.

    Args:
        make (Callable): Builds a config without our entries of ``plugins``.
        cfg (dict | list[dict]): The config; it stays as it is.

    Returns:
        Any: What ``make`` returned.

    Raises:
        ConfigError: (a ValueError) If ``plugins`` do not fit.
    """
    if isinstance(cfg, (list, tuple)):
        parts = [_take_out(part) for part in cfg]
        stripped = type(cfg)(part for part, _ in parts)
    else:
        stripped, ours = _take_out(cfg)
        parts = [(stripped, ours)]
    try:
        built = make(stripped)
    except (AssertionError, KeyError, TypeError) as error:
        # the last are mmdet's words, those on a ResNet-18
        words = "'plugins'", "'position'", 'Not implemented yet.'
        if 'plugins' in str(cfg) and any(w in str(error) for w in words):
            raise ConfigError(_no_key(cfg)) from error
        raise
    modules = built if isinstance(cfg, (list, tuple)) else [built]
    for module, (_, ours) in zip(modules, parts):
        if ours:
            insert_plugins(module, ours)
    if isinstance(built, nn.Module) and any(map(is_block, built.modules())):
        guard(type(built))
        teach(built)
    return built


def our_entries(cfg: Any) -> List[dict]:
    """Return the entries of a config's ``plugins`` that name a place."""
    plugins = cfg.get('plugins') if isinstance(cfg, dict) else None
    if not isinstance(plugins, (list, tuple)):
        return []
    return [p for p in plugins if isinstance(p, dict) and PLACES & {*p}]


def _take_out(cfg: Any) -> Tuple[Any, List[dict]]:
    """Return a config without our plugins, and those."""
    plugins = cfg.get('plugins') if isinstance(cfg, dict) else None
    if isinstance(plugins, dict) and {*plugins} & {*PLACES, 'cfg'}:
        raise ConfigError(
            f'plugins of {cfg.get("type")} must be a list of dicts, got a '
            'dict; write plugins=[dict(...)]'
        )
    ours = our_entries(cfg)
    if not ours:
        return cfg, []
    cfg, theirs = cfg.copy(), [p for p in plugins if p not in ours]
    cfg.pop('plugins')
    if theirs:
        cfg['plugins'] = theirs
    return cfg, ours


def misplaced(where: str, key: str, plugin: dict) -> str:
    """Say where an entry of a dict that no registry builds belongs.

    Args:
        where (str): What an error calls the dict.
        key (str): The dict's own key.
        plugin (dict): An entry of its ``plugins`` that has a place.
    """
    after = plugin.get('after', 'layer3.-2')
    top = ATTRIBUTES.get(key, key)
    if isinstance(after, (list, tuple)):
        path = [f'{top}.{part}' for part in after]
    else:
        path = f'{top}.{after}'
    return (
        f'no registry builds {where}; move its plugins into the dict around '
        f'it, with the path from there, such as after={path!r}'
    )


def _no_key(cfg: Any) -> str:
    cfg = cfg if isinstance(cfg, dict) else {}
    for key, child in cfg.items():
        if ours := our_entries(child):
            return misplaced(f'{key!r} of {cfg["type"]}', key, ours[0])
    kind = cfg.get('type', 'a list')
    return (
        f'{kind} has no plugins of this form: give each entry of `plugins` '
        "a place by `after`, e.g. dict(cfg=dict(type='CGNL2d'), "
        "after='layer3.-2')"
    )


def _check_keys(plugin: Dict[str, Any], where: str) -> None:
    unknown = sorted(set(plugin) - KEYS)
    if unknown:
        raise ConfigError(
            f'{where} has unknown keys {unknown}; allowed: {sorted(KEYS)}'
        )
    if PLACES <= set(plugin):
        raise ConfigError(
            f'{where} has both `after` and `after_blocks`; give one of them'
        )
    if not isinstance(plugin.get('cfg'), dict):
        raise ConfigError(
            f"{where} needs a 'cfg' with the dict of a block, e.g. "
            f"cfg=dict(type='CGNL2d'), got {plugin.get('cfg')!r}"
        )


def _build_block(cfg: Dict[str, Any], place) -> nn.Module:
    """Build a block for its place, without disturbing the random state."""
    cfg = dict(cfg)
    kind = _find_type(cfg.pop('type', None))
    if place.hint and 'in_channels' not in cfg:
        raise ConfigError(
            f'the place returns {place.shape}, whose channels seem to stand '
            f'last; give {place.hint}, or in_channels in the cfg of the block'
        )
    channels = place.shape[1] if place.shape else cfg['in_channels']
    given = cfg.pop('in_channels', channels)
    if given != channels:
        raise ConfigError(
            f'in_channels={given}, but there are {channels} channels; leave '
            'in_channels out'
        )
    try:
        with own_random_state(place.path):
            return kind(in_channels=channels, **cfg)
    except TypeError as error:
        takes = ', '.join(inspect.signature(kind).parameters)
        raise ConfigError(f'{error}; {kind.__name__} takes {takes}') from error
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            f'{kind.__name__} refuses its settings: {error}'
        ) from error


def _find_type(kind: Any) -> type:
    """Look a block up as mmcv does, but say what is there to be found."""
    if inspect.isclass(kind):
        return kind
    found = None
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            found = registry.get(kind)
    if found is None:
        raise ConfigError(
            f'no block {kind!r} is registered; known are, for example, '
            'CGNL2d, CGNL3d, NonLocal2d, NonLocal3d and ContextBlock; a '
            "host's own need its prefix ('mmdet.DyReLU')"
        )
    return found
