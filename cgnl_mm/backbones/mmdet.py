"""Plugin backbones of mmdet, whose own plugin form keeps working."""

from mmdet.models.backbones import ResNet, ResNetV1d, ResNeXt
from mmdet.registry import MODELS

from .plugins import PluginMixin


class _PluginMixin(PluginMixin):
    host_plugins = True


@MODELS.register_module()
class PluginResNet(_PluginMixin, ResNet):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNetV1d(_PluginMixin, ResNetV1d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNeXt(_PluginMixin, ResNeXt):
    __doc__ = PluginMixin.__doc__
