"""Plugin backbones of mmaction2: 3D networks, and the 2D ResNet of TSN."""

from typing import Dict, Tuple

from mmaction.models.backbones import (
    ResNet,
    ResNet2Plus1d,
    ResNet3d,
    ResNet3dCSN,
    ResNet3dSlowOnly,
)
from mmaction.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .plugins import PluginMixin

PREFIX = 'backbone.'  # of a backbone's names in the checkpoint of a model
NON_LOCAL = ('.non_local3d_', '.nonlocal_block_')  # mmcv's, in 3D and in 2D


class _PluginMixin3d(PluginMixin):
    """Starts from the backbone of a whole model, 2D or 3D, blocks included.

    mmaction2's own way is for checkpoints of a backbone alone, and its
    inflation for torchvision's names, through ConvModules. From mmpretrain's
    checkpoint of a model it would load nothing, and drop a 2D block.
    """

    def init_weights(self, *args, **kwargs) -> None:
        """Initialise as the host does; 2D blocks in the file inflate, too."""
        handle = self._register_load_state_dict_pre_hook(_strip_prefix)
        try:
            super().init_weights(*args, **kwargs)
        finally:
            handle.remove()
        if not isinstance(self.pretrained, str) or not self.pretrained2d:
            return
        state, prefix = _load_2d(self.pretrained)
        for path in self.plugin_units:
            start = f'{prefix}{path.replace(*NON_LOCAL)}.'
            state_2d = {
                key[len(start) :]: value
                for key, value in state.items()
                if key.startswith(start)
            }
            if state_2d:
                _inflate_block(self.get_submodule(path), state_2d, path)

    def inflate_weights(self, logger: MMLogger) -> None:
        """Inflate a 2D backbone, or that of a whole 2D model."""
        inflate = super().inflate_weights
        if _load_2d(self.pretrained)[1]:
            inflate.__func__(_Model(self), logger)
        else:
            inflate(logger)


class _Model(nn.Module):
    """A backbone under the names that it has in a model."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules['backbone'], name)


def _strip_prefix(state: Dict[str, Tensor], *_) -> None:
    """Give what a model's checkpoint holds the names of the backbone."""
    for key in [key for key in state if key.startswith(PREFIX)]:
        state[key[len(PREFIX) :]] = state.pop(key)


def _load_2d(path: str) -> Tuple[Dict[str, Tensor], str]:
    """State dict of a 2D checkpoint, and the prefix of the backbone in it."""
    state = CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent')
    state = state.get('state_dict', state)
    found = any(key.startswith(PREFIX) for key in state)
    return state, PREFIX if found else ''


def _inflate_block(
    block: nn.Module, state_2d: Dict[str, Tensor], path: str
) -> None:
    """Load the weights of a 2D block, kernels as in mmaction2's inflation.

    What does not fit stays as it was built, with a warning, as there.

    Args:
        block (nn.Module): Of a 3D network.
        state_2d (dict[str, Tensor]): State dict of the 2D block.
        path (str): What to call the block.
    """
    own = block.state_dict()
    fitting = {}
    for key, value in state_2d.items():
        if key in own and own[key].dim() == value.dim() + 1 == 5:
            frames = own[key].shape[2]
            value = value.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
        if key in own and own[key].shape == value.shape:
            fitting[key] = value
    block.load_state_dict(fitting, strict=False)
    logger = MMLogger.get_current_instance()
    logger.info(f'{path}: inflated from the block in the 2D checkpoint')
    rest = [
        key
        for key in sorted({*own, *state_2d} - fitting.keys())
        if not key.endswith('num_batches_tracked')
    ]
    if rest:
        logger.warning(
            f'{path}: not inflated, for being absent from the 2D checkpoint '
            f'or from the block, or of another shape: {", ".join(rest)}'
        )


@MODELS.register_module()
class PluginResNet(PluginMixin, ResNet):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3d(_PluginMixin3d, ResNet3d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3dSlowOnly(_PluginMixin3d, ResNet3dSlowOnly):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet2Plus1d(_PluginMixin3d, ResNet2Plus1d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3dCSN(_PluginMixin3d, ResNet3dCSN):
    __doc__ = PluginMixin.__doc__
