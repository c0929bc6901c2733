"""Let every module that a registry of models builds take `plugins`.

Symptom: ``TypeError: ResNet.__init__() got an unexpected keyword argument
'plugins'``.

Versions: all. mmdet and mmsegmentation have plugins inside of the units of a
ResNet, at each unit of a stage; other hosts have none.

Upstream: mmdetection #4169 asks for a plugin in one unit.

Cure: ``Registry.build`` inserts the entries that have ``after`` or
``after_blocks`` (:mod:`cgnl_mm.insertion.key`). A registry copies its build
function from its parent when it is made, so the method is replaced, which
they share. The layer decay of mmdet and mmsegmentation, which expects a number
in the place of ``cgnl_8``, takes the block for the unit before it. mmcv's
``fuse_conv_bn`` folds no batch norm into a convolution across a block, and
throws no batch norm away that a block follows.
``ResNet3d`` starts from a model's checkpoint, blocks included.

Delete when: never; this is what the package is for.
"""

import functools
import re
from types import ModuleType
from typing import Any

from torch import nn

from .imports import after_import, replace

# 'backbone.stages.2.cgnl_8.theta.weight' belongs to unit 8.
BLOCK = re.compile(r'^(backbone\.stages\.\d+\.)[a-z]\w*_(\d+\.)')


def apply() -> None:
    """Replace ``Registry.build``; what inserts is imported on first use."""
    from mmengine.registry import MODELS, Registry

    original = Registry.build

    @functools.wraps(original)
    def build(self, cfg: Any, *args, **kwargs) -> Any:
        def make(cfg: Any) -> Any:
            return original(self, cfg, *args, **kwargs)

        root = self
        while root.parent is not None:
            root = root.parent
        if root is not MODELS:
            return make(cfg)
        # imports the blocks, and those mmcv, after all other cures
        from ..insertion import key

        return key.build(make, cfg)

    Registry.build = build
    for host in ('mmdet', 'mmseg'):
        name = f'{host}.engine.optimizers.layer_decay_optimizer_constructor'
        after_import(name, _mend_layer_decay)
    after_import('mmcv.cnn.utils.fuse_conv_bn', _mend_fusing)
    after_import('mmaction.models.backbones.resnet3d', _mend)
    after_import('mmaction.models.backbones.resnet3d_slowfast', _mend_pathway)


def _mend_layer_decay(module: ModuleType) -> None:
    """Let a host's layer decay take a block for the unit before it."""
    original = module.get_layer_id_for_convnext

    @functools.wraps(original)
    def get_layer_id(var_name: str, max_layer_id: int) -> int:
        return original(BLOCK.sub(r'\1\2', var_name), max_layer_id)

    module.get_layer_id_for_convnext = get_layer_id


def _mend_fusing(module: ModuleType) -> None:
    """Let mmcv fuse what stands between blocks, piece by piece."""
    original = module.fuse_conv_bn

    @functools.wraps(original)
    def fuse_conv_bn(network: nn.Module) -> nn.Module:
        from ..insertion.initialization import is_block  # as in apply

        pieces = [nn.Module()]
        for name, child in network.named_children():
            own = any(map(is_block, child.modules()))
            if own:  # a piece of its own
                pieces.append(nn.Module())
            pieces[-1]._modules[name] = child
            if own:
                pieces.append(nn.Module())
        for piece in pieces:
            network._modules.update(original(piece)._modules)
        return network

    replace(original, fuse_conv_bn)


def _mend(module: ModuleType) -> None:
    from ..insertion.inflation import mend_initialization

    mend_initialization(module.ResNet3d)


def _mend_pathway(module: ModuleType) -> None:
    from ..insertion.inflation import mend_inflation

    mend_inflation(module.ResNet3dPathway)  # has one of its own
