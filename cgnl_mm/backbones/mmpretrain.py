"""Plugin backbones of mmpretrain."""

from typing import Tuple

from mmpretrain.models.backbones import (
    ResNet,
    ResNetV1c,
    ResNetV1d,
    ResNeXt,
    SEResNet,
)
from mmpretrain.registry import MODELS

from .plugins import PluginMixin


class _PluginMixin(PluginMixin):
    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> Tuple[int, int]:
        """Layer depth for layer-wise decay: a block counts as its unit.

        Args:
            param_name (str): Name of a parameter of the whole model.
            prefix (str): Prefix of this backbone's. Defaults to ''.

        Returns:
            tuple[int, int]: Depth and number of layers.
        """
        for path, unit in self.plugin_units.items():
            if param_name.startswith(f'{prefix}{path}.'):
                param_name = f'{prefix}{path.split(".")[0]}.{unit}.'
        return super().get_layer_depth(param_name, prefix)


@MODELS.register_module()
class PluginResNet(_PluginMixin, ResNet):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNetV1c(_PluginMixin, ResNetV1c):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNetV1d(_PluginMixin, ResNetV1d):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginResNeXt(_PluginMixin, ResNeXt):
    __doc__ = PluginMixin.__doc__


@MODELS.register_module()
class PluginSEResNet(_PluginMixin, SEResNet):
    __doc__ = PluginMixin.__doc__
