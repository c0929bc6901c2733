"""Define networks of the hosts and of PyTorch, each with a place for a block.

docs/networks.md is the list as a table. This command builds each network with
its block, looks whether the network stays the same, and writes the page:

    PYTHONPATH=. python tests/insertion/networks.py
"""

import copy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils._pytree import tree_flatten

import cgnl_mm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/networks.md'
CLIP, IMAGE = (3, 8, 32, 32), (3, 64, 64)


@dataclass
class Network:
    """A stock network, built as a config builds it.

    Args:
        host (str): Package whose registry builds it.
        cfg (dict): Its stock config.
        after (str): The place of the block.
        path (str): What the block is then called.
        shape (tuple[int, ...] | list[tuple]): Of one sample, or of each of
            the maps that a neck takes.
        keys (dict): Further keys of the entry, such as ``axes``.
        call (str): The part that a test runs, where the whole takes more
            than maps; '' is the whole.
        needs (str): A package that the host does not bring.
        exports (bool): Whether torch.export takes the stock network; the
            remark says why not.
        remark (str): What the table says of it.
    """

    host: str
    cfg: dict
    after: str
    path: str
    shape: tuple = IMAGE
    batch: int = 2
    keys: dict = field(default_factory=dict)
    call: str = ''
    needs: str = ''
    exports: bool = True
    remark: str = ''

    def __str__(self):
        return f'{self.host}-{self.cfg["type"]}-{self.after}'

    @property
    def block(self):
        """The type of the block."""
        flat = isinstance(self.shape, list) or self.cfg['type'] == 'C2D'
        return f'CGNL{2 if flat else len(self.shape) - 1}d'

    @property
    def entry(self):
        return plugin(self.after, self.block, **self.keys)

    @property
    def line(self):
        """What the reader writes."""
        keys = ''.join(f', {k}={v!r}' for k, v in self.keys.items())
        return (
            f'dict(cfg=dict(type={self.block!r}), after={self.after!r}{keys})'
        )

    @property
    def row(self):
        """The line of the table."""
        told = map(self.cfg.get, ('depth', 'arch', 'model_name'))
        size = ''.join(f', {t}' for t in told if isinstance(t, (int, str)))
        cells = (
            f'{self.cfg["type"]}{size}', self.host, f'`{self.line}`',
            f'`{self.path}`', self.remark,
        )  # fmt: skip
        return f'| {" | ".join(cells)} |'

    def build(self, plugins=None, **settings):
        cfg = {**self.cfg, **settings}
        if plugins is not None:
            cfg['plugins'] = plugins
        return build(self.host, cfg)

    def twins(self):
        """Build the network without and with the block, from one seed."""
        if self.needs:
            pytest.importorskip(self.needs)
        for plugins in (None, [self.entry]):
            torch.manual_seed(1)
            yield self.build(copy.deepcopy(plugins))

    def input(self):
        if isinstance(self.shape, list):
            return tuple(torch.randn(self.batch, *s) for s in self.shape)
        return torch.randn(self.batch, *self.shape)

    def part(self, net):
        """Return what a test runs."""
        return attrgetter(self.call)(net) if self.call else net


@dataclass
class Plain(Network):
    """A network without a registry; a call inserts the block.

    Args:
        channels (int): What the block is given.
    """

    channels: int = 0

    @property
    def line(self):
        return (
            f'insert_after(network, {self.after!r}, '
            f'{self.block}({self.channels}))'
        )

    def build(self, plugins=None):
        cfg = dict(self.cfg)
        kind = cfg.pop('type')
        make = PLAIN.get(kind) or attrgetter(kind)(import_module(self.host))
        net = make(**cfg)
        if plugins:
            # By config, too, a block draws from a stream of its own.
            with torch.random.fork_rng(devices=[]):
                block = getattr(cgnl_mm, self.block)(self.channels, 2)
            cgnl_mm.insert_after(net, self.after, block)
        return net


def points(width=16):
    """Make a network on points: (B, 3, N)."""
    layers = [nn.Conv1d(3, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveMaxPool1d(1))


PLAIN = {'Sequential of Conv1d': points}


def plugin(after, type='CGNL2d', **keys):
    return dict(cfg=dict(type=type, groups=2), after=after, **keys)


def build(host, cfg):
    """Build a config by the host's registry, in its scope."""
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        return registry.build(cfg)


def initialize(net):
    """Let a network of a host initialise its layers."""
    getattr(net, 'init_weights', lambda: None)()


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
EXTRA = {
    f'stage{i}': dict(
        num_modules=1,
        num_branches=i,
        block='BASIC' if i > 1 else 'BOTTLENECK',
        num_blocks=(2,) * i,
        num_channels=[8 << branch for branch in range(i)],
    )
    for i in (1, 2, 3, 4)
}
# Its owner reads attributes.
MASK_RCNN = ConfigDict(
    type='MaskRCNN', rpn_head=None,
    backbone=dict(type='ResNet', depth=18, base_channels=8, norm_eval=False),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8,
        num_outs=5),
    roi_head=dict(type='StandardRoIHead',
        mask_roi_extractor=dict(type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14), out_channels=8,
            featmap_strides=[4]),
        mask_head=dict(type='FCNMaskHead', in_channels=8,
            conv_out_channels=8)),
    train_cfg=dict(rcnn=None), test_cfg=dict(rcnn=None),
)  # fmt: skip
WHOLE = 'a whole detector; the entry stands in `model=dict(plugins=...)`'
DEEPLAB = dict(
    type='EncoderDecoder', test_cfg=dict(mode='whole'),
    backbone=dict(type='ResNetV1c', depth=50, **SMALL),
    decode_head=dict(type='DepthwiseSeparableASPPHead', in_channels=256,
        in_index=3, channels=8, dilations=(1, 2), c1_in_channels=32,
        c1_channels=8, num_classes=3, norm_cfg=dict(type='BN')),
)  # fmt: skip

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
        deepen_factor=0.33), 'stage3.-1', 'stage3.cgnl_1', remark='YOLOX'),
    Network('mmdet', dict(type='FPN', in_channels=[8, 16], out_channels=8,
        num_outs=3), 'fpn_convs.0', 'fpn_convs.0.cgnl',
        [(8, 16, 16), (16, 8, 8)]),
    Network('mmdet', MASK_RCNN, 'backbone.layer3.-2',
        'backbone.layer3.cgnl_0', call='backbone', remark=WHOLE),
    Network('mmdet', MASK_RCNN, 'roi_head.mask_head.convs.0',
        'roi_head.mask_head.convs.0.cgnl', (8, 14, 14),
        call='roi_head.mask_head', remark=WHOLE),
    Plain('torch', dict(type='Sequential of Conv1d'), '1', 'cgnl_1', (3, 64),
        channels=16),
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
        pretrained2d=False), 'patch_embed', 'patch_embed.cgnl', CLIP,
        exports=False, remark='mmaction2 keeps a mask of each size, so '
        'torch.export takes the network once in a process'),
    Network('mmdet', dict(type='ResNet', depth=50, norm_eval=False,
        base_channels=8), 'layer3.-2', 'layer3.cgnl_4'),
    Network('mmdet', dict(type='CSPNeXt', widen_factor=0.25),
        'stage3.-1', 'stage3.cgnl_1', remark='RTMDet'),
    Network('mmdet', dict(type='SSDVGG', depth=16, ceil_mode=True,
        out_indices=(3, 4), out_feature_indices=(22, 34)),
        'features.22', 'features.22.cgnl'),
    Network('mmdet', dict(type='DetectoRS_ResNet', depth=50,
        conv_cfg=dict(type='ConvAWS'), norm_eval=False, output_img=True),
        'layer3.-2', 'layer3.cgnl_4'),
    Network('mmpretrain', dict(type='TIMMBackbone', model_name='resnetv2_50'),
        'timm_model.stages.2.blocks.-2',
        'timm_model.stages.2.blocks.cgnl_4', needs='timm',
        remark='needs timm'),
    Network('mmdet', dict(type='HRNet', extra=EXTRA, norm_eval=False),
        'layer1.-1', 'layer1.cgnl_1'),
    Network('mmseg', DEEPLAB, 'backbone.layer3.-2',
        'backbone.layer3.cgnl_4', needs='ftfy',
        remark='ResNetV1c with the head of DeepLabV3+; '
        'the entry stands in `model=dict(plugins=...)`'),
    Plain('torchvision.models', dict(type='resnet50'),
        'layer3.-2', 'layer3.cgnl_4', channels=1024),
    Plain('torchvision.models', dict(type='vgg11'),
        'features.-2', 'features.cgnl_19', channels=512),
    Plain('torchvision.models', dict(type='video.r3d_18'),
        'layer3.-1', 'layer3.cgnl_1', CLIP, channels=256),
    Plain('torchvision.models', dict(type='detection.fasterrcnn_resnet50_fpn',
        weights=None, weights_backbone=None), 'backbone.body.layer3.-2',
        'backbone.body.layer3.cgnl_4', call='backbone', channels=1024),
]  # fmt: skip


@dataclass
class Arranged(Network):
    """A network with other axes than a block.

    Args:
        block (str): Type of the block.
    """

    block: str = 'CGNL3d'


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
        keys=dict(frames=True), remark='TSN; the entry stands in '
        '`model=dict(plugins=...)`'),
]  # fmt: skip
NIGHTLY += [
    SWIN,
    SWIN_3D,
    Arranged('mmaction', dict(type='TANet', depth=50, pretrained=None,
        num_segments=8), 'layer2.-1', 'layer2.cgnl_3', (3, 32, 32), batch=16,
        keys=dict(frames=True)),
]  # fmt: skip
ZOO = {str(network): network for network in FAST + NIGHTLY}


HEAD = """# Networks

[Plugins](plugins.md) explains the entries. The tests build and train each line
of this table, at the depth that stands behind the name. The line of a host's
network goes into the list `plugins` of the dict that has its type. Where a
network has no config, the line is a call.

| network | host | line | name of the block | |
|---|---|---|---|---|
"""


def page():
    """Return docs/networks.md."""
    by_host = sorted(ZOO.values(), key=attrgetter('host'))
    return HEAD + ''.join(f'{network.row}\n' for network in by_host)


def check(network):
    """Build a network, and see that its new block changes nothing."""
    x, found = network.input(), []
    for net in network.twins():
        initialize(net)
        net.eval()
        with torch.no_grad():
            found.append(outputs(network.part(net), x))
    kind = getattr(cgnl_mm, network.block)
    assert isinstance(net.get_submodule(network.path), kind)
    assert all(map(torch.equal, *found)), str(network)


if __name__ == '__main__':
    for network in ZOO.values():
        if not network.needs or find_spec(network.needs):
            check(network)
    PAGE.write_text(page(), 'utf-8')
