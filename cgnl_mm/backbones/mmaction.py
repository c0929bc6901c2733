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


@MODELS.register_module()
class PluginResNet(PluginMixin, ResNet):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3d(PluginMixin, ResNet3d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3dSlowOnly(PluginMixin, ResNet3dSlowOnly):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet2Plus1d(PluginMixin, ResNet2Plus1d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNet3dCSN(PluginMixin, ResNet3dCSN):
    __doc__ = PluginMixin.__doc__
