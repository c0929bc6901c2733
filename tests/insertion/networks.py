"""Define networks of the hosts, each with a place for a block."""

from dataclasses import dataclass, field
from importlib import import_module

import torch
from mmengine.registry import DefaultScope
from torch.utils._pytree import tree_flatten

import cgnl_mm  # noqa: F401  teaches the registries the key `plugins`

CLIP, IMAGE = (3, 8, 32, 32), (3, 64, 64)


@dataclass
class Network:
    """A stock network, built as a config builds it.

    Args:
        host (str): Package whose registry builds it.
        cfg (dict): Its stock config.
        after (str): The place of the block.
        path (str): What the block is then called.
        shape (tuple[int, ...]): Of one sample.
    """

    host: str
    cfg: dict
    after: str
    path: str
    shape: tuple = IMAGE
    batch: int = 2

    def __str__(self):
        return f'{self.host}-{self.cfg["type"]}-{self.after}'

    @property
    def entry(self):
        rank = 3 if self.shape[0] == 3 and len(self.shape) == 4 else 2
        rank = 2 if self.cfg['type'] == 'C2D' else rank
        return plugin(self.after, type=f'CGNL{rank}d')

    def build(self, plugins=None, **settings):
        cfg = {**self.cfg, **settings}
        if plugins is not None:
            cfg['plugins'] = plugins
        return build(self.host, cfg)

    def input(self):
        if isinstance(self.shape, list):
            return tuple(torch.randn(self.batch, *s) for s in self.shape)
        return torch.randn(self.batch, *self.shape)


def plugin(after, type='CGNL2d', **keys):
    return dict(cfg=dict(type=type, groups=2), after=after, **keys)


def build(host, cfg):
    """Build a config by the host's registry, in its scope."""
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        return registry.build(cfg)


def outputs(net, x):
    """List all tensors that a network returns."""
    return [y for y in tree_flatten(net(x))[0] if torch.is_tensor(y)]


def randomize(module):
    """Fill every tensor: nothing at zero, nothing at its initial value."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if 'running_var' in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return module


def assert_same(ours, expected):
    """Compare names and tensors, bit for bit."""
    assert ours.keys() == expected.keys()
    assert not [k for k in ours if not torch.equal(ours[k], expected[k])]


def _pathway(lateral):
    return dict(
        type='resnet3d',
        depth=50,
        pretrained=None,
        lateral=lateral,
        base_channels=16 if lateral else 2,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
    )


SMALL = dict(base_channels=8, stem_channels=8)
I3D = dict(pretrained=None, base_channels=8)
FACTORED = dict(
    conv_cfg=dict(type='Conv2plus1d'),
    norm_cfg=dict(type='BN3d'),
    inflate_style='3x3x3',
)
# Two stages keep mmaction's 2D ResNets, which have no narrow form, small.
TSN = dict(
    depth=18,
    pretrained=None,
    num_stages=2,
    out_indices=(1,),
    strides=(1, 2),
    dilations=(1, 1),
)
FRAMES = dict(pretrained=None, pretrained2d=False)  # in the batch

# One of each kind: stages that are called, an owner that indexes, lists of
# modules, two pathways, frames in the batch, a neck.
FAST = [
    Network('mmpretrain', dict(type='ResNet', depth=18, **SMALL),
        'layer3.-2', 'layer3.cgnl_0'),
    Network('mmpretrain', dict(type='VGG', depth=11),
        'features.-4', 'features.9.cgnl', (3, 32, 32)),
    Network('mmpretrain', dict(type='ConvNeXt', arch='atto'),
        'stages.2.-1', 'stages.2.cgnl_5'),
    Network('mmaction', dict(type='ResNet3d', depth=18, **I3D),
        'layer3.-2', 'layer3.cgnl_0', CLIP),
    Network('mmaction', dict(type='ResNet3dSlowFast', pretrained=None,
        slow_pathway=_pathway(True), fast_pathway=_pathway(False)),
        'slow_path.layer3.-2', 'slow_path.layer3.cgnl_4', (3, 16, 32, 32)),
    Network('mmaction', dict(type='ResNetTSM', depth=18, **FRAMES),
        'layer2.0', 'layer2.cgnl_0', (3, 32, 32), batch=8),
    Network('mmdet', dict(type='CSPDarknet', widen_factor=0.25,
        deepen_factor=0.33), 'stage3.-1', 'stage3.cgnl_1'),
    Network('mmdet', dict(type='FPN', in_channels=[8, 16], out_channels=8,
        num_outs=3), 'fpn_convs.0', 'fpn_convs.0.cgnl',
        [(8, 16, 16), (16, 8, 8)]),
]  # fmt: skip
NIGHTLY = [
    Network('mmpretrain', dict(type='ResNetV1d', depth=50, **SMALL),
        'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='ResNeXt', depth=50, groups=2,
        width_per_group=32, **SMALL), 'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='SEResNet', depth=50, se_ratio=8,
        **SMALL), 'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='Res2Net', depth=50, scales=4,
        base_width=26), 'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='ResNeSt', depth=50),
        'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='RegNet', arch='regnetx_400mf'),
        'layer3.-2', 'layer3.cgnl_5'),
    Network('mmpretrain', dict(type='MobileNetV2'),
        'layer5.-1', 'layer5.cgnl_2'),
    Network('mmpretrain', dict(type='EfficientNet', arch='b0'),
        'layers.4.-1', 'layers.4.cgnl_5'),
    Network('mmpretrain', dict(type='HRNet', arch='w18'),
        'layer1.-1', 'layer1.cgnl_3'),
    Network('mmaction', dict(type='ResNet3dSlowOnly', depth=50, **I3D),
        'layer3.-2', 'layer3.cgnl_4', CLIP),
    Network('mmaction', dict(type='ResNet2Plus1d', depth=18,
        pretrained2d=False, **FACTORED, **I3D),
        'layer3.0', 'layer3.cgnl_0', CLIP),
    Network('mmaction', dict(type='ResNet3dCSN', depth=50,
        pretrained2d=False, **I3D), 'layer3.-2', 'layer3.cgnl_4', CLIP),
    Network('mmaction', dict(type='ResNet3dSlowFast', pretrained=None,
        slow_pathway=_pathway(True), fast_pathway=_pathway(False)),
        'fast_path.layer4.0', 'fast_path.layer4.cgnl_0', (3, 16, 32, 32)),
    Network('mmaction', dict(type='X3D', gamma_w=1, gamma_b=2.25,
        gamma_d=2.2), 'layer3.-2', 'layer3.cgnl_9', CLIP),
    Network('mmaction', dict(type='ResNet', **TSN),
        'layer2.0', 'layer2.cgnl_0'),
    Network('mmaction', dict(type='TANet', depth=50, pretrained=None,
        num_segments=8), 'layer3.-2', 'layer3.cgnl_4', batch=8),
    Network('mmaction', dict(type='C2D', depth=50, pretrained=None),
        'layer3.-2', 'layer3.cgnl_4', CLIP),
    Network('mmaction', dict(type='SwinTransformer3D', arch='tiny',
        pretrained2d=False), 'patch_embed', 'patch_embed.cgnl', CLIP),
    Network('mmdet', dict(type='ResNet', depth=50, norm_eval=False,
        base_channels=8), 'layer3.-2', 'layer3.cgnl_4'),
    Network('mmdet', dict(type='CSPNeXt', widen_factor=0.25),
        'stage3.-1', 'stage3.cgnl_1'),
    Network('mmdet', dict(type='SSDVGG', depth=16, ceil_mode=True,
        out_indices=(3, 4), out_feature_indices=(22, 34)),
        'features.22', 'features.22.cgnl'),
    Network('mmdet', dict(type='DetectoRS_ResNet', depth=50,
        conv_cfg=dict(type='ConvAWS'), norm_eval=False, output_img=True),
        'layer3.-2', 'layer3.cgnl_4'),
]  # fmt: skip


@dataclass
class Arranged(Network):
    """A network with other axes than a block.

    Args:
        block (str): Type of the block.
        keys (dict): Further keys of the entry.
    """

    block: str = 'CGNL3d'
    keys: dict = field(default_factory=dict)

    @property
    def entry(self):
        return plugin(self.after, self.block, **self.keys)


SHALLOW = dict(embed_dims=16, depths=[1, 1], num_heads=[2, 2])
VIT, SWIN, SWIN_3D = (
    Arranged('mmpretrain', dict(type='VisionTransformer', img_size=64,
        arch=dict(embed_dims=32, num_layers=2, num_heads=2,
            feedforward_channels=64)),
        'layers.0', 'layers.0.cgnl', block='CGNL1d', keys=dict(axes='BNC')),
    Arranged('mmpretrain', dict(type='SwinTransformer', arch=SHALLOW,
        out_indices=(1,)), 'stages.1.blocks.0', 'stages.1.blocks.0.cgnl',
        block='CGNL1d', keys=dict(axes='BNC')),
    Arranged('mmaction', dict(type='SwinTransformer3D', arch=SHALLOW,
        out_indices=(1,), pretrained2d=False), 'layers.1.blocks.0',
        'layers.1.blocks.0.cgnl', CLIP, keys=dict(axes='BSC')),
)  # fmt: skip
TSN_HEAD = dict(type='TSNHead', num_classes=3, in_channels=128)
FAST += [
    VIT,
    Arranged('mmaction', dict(type='Recognizer2D', cls_head=TSN_HEAD,
        backbone=dict(type='ResNet', **TSN)),
        'backbone.layer2.0', 'backbone.layer2.cgnl_0', (8, 3, 32, 32),
        keys=dict(frames=True)),
]  # fmt: skip
NIGHTLY += [
    SWIN,
    SWIN_3D,
    Arranged('mmaction', dict(type='TANet', depth=50, pretrained=None,
        num_segments=8), 'layer2.-1', 'layer2.cgnl_3', (3, 32, 32), batch=16,
        keys=dict(frames=True)),
]  # fmt: skip
ZOO = {str(network): network for network in FAST + NIGHTLY}
