"""Plugin backbones of mmaction2: 3D networks, and the 2D ResNet of TSN."""

from mmaction.models.backbones import (
    ResNet,
    ResNet2Plus1d,
    ResNet3d,
    ResNet3dCSN,
    ResNet3dSlowOnly,
)
from mmaction.registry import MODELS

from .plugins import PluginMixin


class _PluginMixin3d(PluginMixin):
    def _loads_state_dict(self, pretrained=None) -> bool:
        # init_cfg means nothing to ResNet3d; 2D weights hold no 3D block
        pretrained = pretrained or self.pretrained
        return isinstance(pretrained, str) and not self.pretrained2d


@MODELS.register_module()
class PluginResNet(PluginMixin, ResNet):
    __doc__ = PluginMixin.__doc__

    def _loads_state_dict(self) -> bool:
        if isinstance(self.pretrained, str):
            return not self.torchvision_pretrain
        return super()._loads_state_dict()


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
