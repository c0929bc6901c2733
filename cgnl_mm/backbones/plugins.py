"""Where a block goes: the one mechanism behind every plugin backbone.

A stage of a ResNet is an ``nn.Sequential`` of residual units named '0', '1',
... Blocks join it as named children (``layer3.cgnl_4`` follows unit 4), so
every key of a pretrained checkpoint stays what it is.
"""

import zlib
from collections import defaultdict
from contextlib import contextmanager
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import build_plugin_layer
from mmengine.logging import print_log
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.nn.modules.conv import _ConvNd

KEYS = {'cfg', 'after_blocks', 'allow_frozen'}
HOST_KEYS = {'cfg', 'stages', 'position'}


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
            - allow_frozen (bool): Accept a stage within ``frozen_stages``,
              for weights that come trained. Defaults to False.

            mmdet's own form (``cfg``, ``stages``, ``position``) is handed to
            mmdet's ResNet.

    Raises:
        ValueError: If a stage, unit, channel count or block does not fit;
            the message names the value, the stage and what is allowed.
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
        checkpoint = self._loads_state_dict(*args, **kwargs)
        with _own_init(self, checkpoint):
            super().init_weights(*args, **kwargs)

    def _loads_state_dict(self) -> bool:
        """Whether init_weights() will load a checkpoint of this class."""
        cfgs = self.init_cfg or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
        return any(
            getattr(c['type'], '__name__', c['type'])
            in ('Pretrained', 'PretrainedInit')
            for c in cfgs
        )


def _split(plugins, owner, host_plugins) -> Tuple[list, list]:
    """Sort plugin dicts into those with after_blocks and the host's own."""
    ours, theirs = [], []
    if plugins is not None and not isinstance(plugins, (list, tuple)):
        raise ValueError(
            f'{owner}: plugins must be a list of dicts, got '
            f'{type(plugins).__name__}'
        )
    for index, plugin in enumerate(plugins or ()):
        where = f'{owner} plugins[{index}]'
        if not isinstance(plugin, dict) or 'cfg' not in plugin:
            raise ValueError(
                f"{where} must be a dict with 'cfg' and 'after_blocks', got "
                f'{plugin!r}'
            )
        allowed = KEYS
        if 'after_blocks' not in plugin and host_plugins:
            allowed = HOST_KEYS
        elif 'after_blocks' not in plugin:
            raise ValueError(
                f"{where} has no 'after_blocks': give the residual units of "
                'each stage that the block follows, e.g. '
                'after_blocks=((), (), (-2,), ())'
            )
        unknown = sorted(set(plugin) - allowed)
        if unknown:
            raise ValueError(
                f'{where} has unknown keys {unknown}; allowed: '
                f'{sorted(allowed)}'
            )
        if allowed is KEYS:
            ours.append((where, plugin))
        else:
            theirs.append(plugin)
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
        ValueError: If a plugin does not fit.
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
                    raise ValueError(
                        f'{spot}: a block {name!r} is there already; give '
                        "one of the two a 'postfix' in its cfg"
                    )
                taken[name] = block
                _warn_norm_eval(backbone, block, spot)

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
    if (
        not isinstance(after_blocks, (list, tuple))
        or len(after_blocks) != len(stages)
    ):
        raise ValueError(
            f'{where}: after_blocks must have one tuple of units for each of '
            f'the {len(stages)} stages ({", ".join(stages)}), got '
            f'{after_blocks!r}'
        )
    resolved = {}
    for index, (stage_name, units) in enumerate(zip(stages, after_blocks)):
        if not isinstance(units, (list, tuple)):
            raise ValueError(
                f'{where}: after_blocks[{index}] ({stage_name}) must be a '
                f'tuple of units, e.g. (-2,) or (), got {units!r}'
            )
        if not units:
            continue
        total = len(getattr(backbone, stage_name))
        for unit in units:
            if isinstance(unit, bool) or not isinstance(unit, int):
                raise ValueError(
                    f'{where}: after_blocks[{index}] ({stage_name}) must '
                    f'hold integers, got {unit!r}'
                )
            if not -total <= unit < total:
                raise ValueError(
                    f'{where}: after_blocks[{index}] ({stage_name}) names '
                    f'unit {unit}, but the stage has {total} units: allowed '
                    f'are {-total} to {total - 1}'
                )
        resolved[stage_name] = sorted(unit % total for unit in units)
        if len(set(resolved[stage_name])) != len(units):
            raise ValueError(
                f'{where}: after_blocks[{index}] ({stage_name}) names a unit '
                f'twice: {units!r}'
            )
        if index > max(backbone.out_indices):
            raise ValueError(
                f'{where}: {stage_name} lies behind the last output '
                f'(out_indices={tuple(backbone.out_indices)}), so its blocks '
                'would never be trained; move them or add the output'
            )
        if index < backbone.frozen_stages and not plugin.get('allow_frozen'):
            raise ValueError(
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
    postfix = cfg.pop('postfix', '')
    channels = _out_channels(stage[unit])
    given = cfg.pop('in_channels', channels)
    if given != channels:
        raise ValueError(
            f'{spot}: in_channels={given}, but the unit has {channels} '
            'output channels; leave in_channels out'
        )
    name = f'{postfix}_{unit}' if postfix else f'_{unit}'
    try:
        with _own_random_state(f'{stage_name}.{name}'):
            name, block = build_plugin_layer(
                cfg, postfix=name, in_channels=channels
            )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f'{spot}: {error}') from error
    rank, expected = _rank(block), _rank(stage)
    if rank != expected:
        raise ValueError(
            f'{spot}: {cfg["type"]} works on {rank} spatial axes, the stage '
            f'on {expected}; take the {expected}d version of the block'
        )
    # Initialised by its constructor: a host must not do it again.
    block.is_init = True
    return name, block


def _out_channels(unit: nn.Module) -> int:
    """Output channels of a residual unit of any host."""
    if hasattr(unit, 'out_channels'):  # mmpretrain
        return unit.out_channels
    return unit.planes * unit.expansion


def _rank(module: nn.Module) -> Optional[int]:
    """Number of spatial axes of the first convolution in ``module``."""
    for child in module.modules():
        if isinstance(child, _ConvNd):
            return len(child.kernel_size)
    return None


def _warn_norm_eval(backbone, block, spot) -> None:
    has_batch_norm = any(isinstance(m, _BatchNorm) for m in block.modules())
    if backbone.norm_eval and has_batch_norm:
        print_log(
            f'{spot}: norm_eval=True of the backbone also stops the BatchNorm '
            'of this block from ever estimating its statistics; use '
            'GroupNorm (norm_cfg=None) or norm_eval=False',
            logger='current',
            level='WARNING',
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
def _own_init(backbone: nn.Module, checkpoint: bool):
    """Shield the blocks from the host's initialisation, not from a checkpoint.

    Drawing weights, the host does not see the blocks at all, and its random
    stream is that of the plain network. Loading a checkpoint, it sees them;
    what the checkpoint did not hold is restored afterwards, since hosts
    re-initialise every convolution and norm that they find.
    """
    stages = {path.split('.')[0] for path in backbone.plugin_units}
    if not checkpoint:
        full = {}
        for name in stages:
            stage = getattr(backbone, name)
            full[name] = dict(stage._modules)
            for path in backbone.plugin_units:
                if path.startswith(f'{name}.'):
                    del stage._modules[path.split('.', 1)[1]]
        try:
            yield
        finally:
            for name, modules in full.items():
                stage = getattr(backbone, name)
                stage._modules.clear()
                stage._modules.update(modules)
        return

    loaded, handles, before = defaultdict(set), [], {}
    for path in backbone.plugin_units:
        block = backbone.get_submodule(path)
        before[path] = {k: v.clone() for k, v in block.state_dict().items()}

        def note(module, state_dict, prefix, *_, path=path):
            loaded[path].update(
                k[len(prefix) :] for k in state_dict if k.startswith(prefix)
            )

        handles.append(block.register_load_state_dict_pre_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for path, state in before.items():
                now = backbone.get_submodule(path).state_dict()
                for key, value in state.items():
                    if key not in loaded[path]:
                        now[key].copy_(value)
