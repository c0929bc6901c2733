"""Where a block goes: the one mechanism behind every plugin backbone.

A stage of a ResNet is an ``nn.Sequential`` of residual units named '0', '1',
... Blocks join it as named children (``layer3.cgnl_4`` follows unit 4), so
every key of a pretrained checkpoint stays what it is.
"""

import inspect
import logging
import zlib
from collections import defaultdict
from contextlib import contextmanager
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import build_plugin_layer
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..errors import ConfigError

KEYS = ('cfg', 'after_blocks', 'allow_frozen')
HOST_KEYS = ('cfg', 'stages', 'position')


class PluginMixin:
    """Gives a host's ResNet the argument ``plugins``.

    Args:
        plugins (list[dict], optional): Blocks to insert. Keys of each:

            - cfg (dict): Config of any registered block; ``in_channels`` is
              filled in. A ``postfix`` tells apart two blocks of one type
              after one unit.
            - after_blocks (Sequence[Sequence[int]]): For each stage, the
              residual units, 0-based, negative from the end, that the block
              follows (after their ReLU). ``((), (), (-2,), ())`` is the
              author's position, ``((), (1, 3), (1, 3, 5), ())`` the
              five-block layout of Wang et al. for ResNet-50.
            - allow_frozen (bool): Accept a place where the backbone's
              settings freeze the block, for weights that come trained.
              Defaults to False.

            mmdet's own form (``cfg``, ``stages``, ``position``) is handed to
            mmdet's ResNet.

    Raises:
        ConfigError: (a ValueError) If a stage, unit, channel count or block
            does not fit; the message names the value, the stage and what is
            allowed.
    """

    host_plugins = False  # whether the host's class has plugins of its own

    def __init__(self, *args, plugins: Optional[List[dict]] = None, **kwargs):
        ours, theirs = _split(plugins, type(self).__name__, self.host_plugins)
        if theirs:
            kwargs['plugins'] = theirs
        super().__init__(*args, **kwargs)
        self.plugin_units = insert_plugins(self, ours)

    def init_weights(self, *args, **kwargs) -> None:
        """Initialise as the host does; the blocks keep their own init."""
        with _hidden_blocks(self):
            super().init_weights(*args, **kwargs)


def _split(plugins, owner, host_plugins) -> Tuple[list, list]:
    """Sort plugin dicts into those with after_blocks and the host's own."""
    ours, theirs = [], []
    if plugins is not None and not isinstance(plugins, (list, tuple)):
        raise ConfigError(
            f'{owner}: plugins must be a list of dicts, got '
            f'{type(plugins).__name__}'
        )
    for index, plugin in enumerate(plugins or ()):
        where = f'{owner} plugins[{index}]'
        if not isinstance(plugin, dict):
            raise ConfigError(f'{where} must be a dict, got {plugin!r}')
        is_theirs = host_plugins and 'position' in plugin
        allowed = HOST_KEYS if is_theirs else KEYS
        unknown = sorted(set(plugin) - set(allowed))
        if unknown:
            hint = '' if host_plugins else "; 'position' is mmdet's alone"
            raise ConfigError(
                f'{where} has unknown keys {unknown}; allowed: '
                f'{list(allowed)}{hint if "position" in unknown else ""}'
            )
        if not isinstance(plugin.get('cfg'), dict):
            raise ConfigError(
                f"{where} needs a 'cfg' with the dict of a block, e.g. "
                f"cfg=dict(type='CGNL2d'), got {plugin.get('cfg')!r}"
            )
        if is_theirs:
            stages = plugin.get('stages')
            if isinstance(stages, (list, tuple)) and not any(stages):
                raise ConfigError(
                    f'{where}: stages={stages!r} names no stage, so no block '
                    'would be built; leave the plugin out'
                )
            theirs.append(plugin)
        elif 'after_blocks' in plugin:
            ours.append((where, plugin))
        else:
            raise ConfigError(
                f"{where} has no 'after_blocks': give the residual units of "
                'each stage that the block follows, e.g. '
                'after_blocks=((), (), (-2,), ())'
            )
    return ours, theirs


def insert_plugins(
    backbone: nn.Module, plugins: Sequence[Tuple[str, dict]]
) -> Dict[str, int]:
    """Build the blocks and insert them into the stages of ``backbone``.

    Args:
        backbone (nn.Module): A built ResNet of mmpretrain, mmdet or mmaction
            (``res_layers`` names its stages).
        plugins (Sequence[tuple[str, dict]]): How to call each plugin in an
            error, and its dict.

    Returns:
        dict[str, int]: Path of each block ('layer3.cgnl_4'), and the unit
        that it follows.

    Raises:
        ConfigError: (a ValueError) If a plugin does not fit.
    """
    followers = defaultdict(lambda: defaultdict(dict))
    for where, plugin in plugins:
        per_stage = _resolve(backbone, where, plugin)
        for stage_name, units in per_stage.items():
            stage = getattr(backbone, stage_name)
            for unit in units:
                taken = followers[stage_name][unit]
                spot = f'{where}, after unit {unit} of {stage_name}'
                name, block = _build(stage, stage_name, unit, plugin, spot)
                if name in taken:
                    raise ConfigError(
                        f'{spot}: a block {name!r} is there already; give '
                        "one of the two a 'postfix' in its cfg"
                    )
                taken[name] = block
                _check_batch_norm(backbone, block, plugin, spot)

    paths = {}
    for stage_name, per_unit in followers.items():
        stage = getattr(backbone, stage_name)
        units = list(stage._modules.items())
        # Order in _modules is order of execution, whatever the names.
        stage._modules.clear()
        for index, (key, unit) in enumerate(units):
            stage.add_module(key, unit)
            for name, block in per_unit.get(index, {}).items():
                stage.add_module(name, block)
                paths[f'{stage_name}.{name}'] = index
    if paths and backbone.frozen_stages >= 0:
        backbone._freeze_stages()
    return paths


def _resolve(backbone, where, plugin) -> Dict[str, List[int]]:
    """Validate after_blocks; return units, 0-based, for each stage name."""
    after_blocks = plugin['after_blocks']
    stages = backbone.res_layers
    if not isinstance(after_blocks, (list, tuple)) or len(after_blocks) != len(
        stages
    ):
        raise ConfigError(
            f'{where}: after_blocks must have one tuple of units for each of '
            f'the {len(stages)} stages ({", ".join(stages)}), got '
            f'{after_blocks!r}'
        )
    if not any(after_blocks):
        raise ConfigError(
            f'{where}: after_blocks={after_blocks!r} names no unit, so no '
            'block would be built; leave the plugin out, or name units, e.g. '
            '(-2,) for a stage'
        )
    resolved = {}
    for index, (stage_name, units) in enumerate(zip(stages, after_blocks)):
        if not isinstance(units, (list, tuple)):
            raise ConfigError(
                f'{where}: after_blocks[{index}] ({stage_name}) must be a '
                f'tuple of units, e.g. (-2,) or (), got {units!r}'
            )
        if not units:
            continue
        total = len(getattr(backbone, stage_name))
        for unit in units:
            if isinstance(unit, bool) or not isinstance(unit, int):
                raise ConfigError(
                    f'{where}: after_blocks[{index}] ({stage_name}) must '
                    f'hold integers, got {unit!r}'
                )
            if not -total <= unit < total:
                raise ConfigError(
                    f'{where}: after_blocks[{index}] ({stage_name}) names '
                    f'unit {unit}, but the stage has {total} units: allowed '
                    f'are {-total} to {total - 1}'
                )
        resolved[stage_name] = sorted(unit % total for unit in units)
        if len(set(resolved[stage_name])) != len(units):
            raise ConfigError(
                f'{where}: after_blocks[{index}] ({stage_name}) names a unit '
                f'twice: {units!r}'
            )
        if index > max(backbone.out_indices):
            raise ConfigError(
                f'{where}: {stage_name} lies behind the last output '
                f'(out_indices={tuple(backbone.out_indices)}), so its blocks '
                'would never be trained; move them or add the output'
            )
        if index < backbone.frozen_stages and not plugin.get('allow_frozen'):
            raise ConfigError(
                f'{where}: {stage_name} is frozen '
                f'(frozen_stages={backbone.frozen_stages}), so a block in it '
                'would stay the identity; move the block, lower '
                'frozen_stages, or set allow_frozen=True in the plugin if '
                'its weights come trained'
            )
    return resolved


def _build(stage, stage_name, unit, plugin, spot) -> Tuple[str, nn.Module]:
    """Build one block for its place, without disturbing the random state."""
    cfg = dict(plugin['cfg'])
    cfg['type'] = block_type = _find_type(cfg.get('type'), spot)
    postfix = str(cfg.pop('postfix', ''))
    if '.' in postfix:
        raise ConfigError(
            f'{spot}: postfix {postfix!r} becomes part of a module name and '
            'cannot hold a dot'
        )
    postfix = f'{postfix}_{unit}'
    channels = _out_channels(stage[unit])
    given = cfg.pop('in_channels', channels)
    if given != channels:
        raise ConfigError(
            f'{spot}: in_channels={given}, but the unit has {channels} '
            'output channels; leave in_channels out'
        )
    try:
        with _own_random_state(f'{stage_name}.{postfix}'):
            name, block = build_plugin_layer(
                cfg, postfix=postfix, in_channels=channels
            )
            if getattr(block, 'init_cfg', None):
                block.init_weights()
    except TypeError as error:
        takes = ', '.join(inspect.signature(block_type).parameters)
        raise ConfigError(
            f'{spot}: {error}; {block_type.__name__} takes {takes}'
        ) from error
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            f'{spot}: {block_type.__name__} refuses its settings: {error}'
        ) from error
    rank, expected = _rank(block), _rank(stage)
    if rank not in (None, expected):
        raise ConfigError(
            f'{spot}: {block_type.__name__} works on {rank} spatial axes, '
            f'the stage on {expected}; take the {expected}d version of the '
            'block'
        )
    return name, block


def _find_type(block_type, spot) -> type:
    """Look a block up as mmcv does, but say what is there to be found."""
    if inspect.isclass(block_type):
        return block_type
    found = None
    if isinstance(block_type, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            found = registry.get(block_type)
    if found is None:
        raise ConfigError(
            f'{spot}: no block {block_type!r} is registered; known are, for '
            'example, CGNL2d, CGNL3d, NonLocal2d, NonLocal3d and '
            "ContextBlock; a host's own need its prefix ('mmdet.DyReLU')"
        )
    return found


def _out_channels(unit: nn.Module) -> int:
    """Output channels of a residual unit, basic or bottleneck, of any host."""
    last = unit.conv3 if hasattr(unit, 'conv3') else unit.conv2
    return last.out_channels


def _rank(module: nn.Module) -> Optional[int]:
    """Number of spatial axes of the first convolution in ``module``."""
    for child in module.modules():
        if isinstance(child, _ConvNd):
            return len(child.kernel_size)
    return None


def _check_batch_norm(backbone, block, plugin, spot) -> None:
    """Tell what the backbone's settings do to a BatchNorm of the block."""
    if not any(isinstance(m, _BatchNorm) for m in block.modules()):
        return
    frozen_by = None
    if getattr(backbone, 'partial_bn', False):  # TSN
        frozen_by = 'partial_bn'
    elif backbone.norm_eval and getattr(backbone, 'bn_frozen', False):  # CSN
        frozen_by = 'bn_frozen'
    if frozen_by and not plugin.get('allow_frozen'):
        raise ConfigError(
            f'{spot}: {frozen_by}=True of the backbone also freezes the '
            'BatchNorm of this block, which would stay the identity; use '
            f'GroupNorm (norm_cfg=None), {frozen_by}=False, or set '
            'allow_frozen=True in the plugin if its weights come trained'
        )
    if backbone.norm_eval:
        print_log(
            f'{spot}: norm_eval=True of the backbone also stops the BatchNorm '
            'of this block from ever estimating its statistics; use '
            'GroupNorm (norm_cfg=None) or norm_eval=False',
            logger='current',
            level=logging.WARNING,
        )


@contextmanager
def _own_random_state(name: str):
    """Draw from a stream of its own: twin networks, with and without blocks,
    start from the same weights everywhere else."""
    state = torch.get_rng_state()
    try:
        seed = zlib.crc32(name.encode(), zlib.crc32(state.numpy().tobytes()))
        # the global generator alone: torch.manual_seed would reset CUDA's too
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def _hidden_blocks(backbone: nn.Module):
    """Hide the blocks from the host's initialisation, not from a checkpoint.

    Hosts re-initialise every convolution and norm that they find, and draw
    for each from the random stream. Not seeing the blocks, they do what they
    do to the plain network; the blocks keep what their constructors drew.
    They reappear while a checkpoint is loaded, which may hold them.
    """
    complete = {}
    for path in backbone.plugin_units:
        stage = backbone.get_submodule(path.split('.')[0])
        complete[stage] = stage._modules
    names = {path.split('.')[1] for path in backbone.plugin_units}

    def show(*_):
        for stage, modules in complete.items():
            stage._modules = modules

    def hide(*_):
        for stage, modules in complete.items():
            stage._modules = {
                name: m for name, m in modules.items() if name not in names
            }

    hide()
    handles = (
        # public only in torch >= 2.5
        backbone._register_load_state_dict_pre_hook(show),
        backbone.register_load_state_dict_post_hook(hide),
    )
    try:
        yield
    finally:
        show()
        for handle in handles:
            handle.remove()
