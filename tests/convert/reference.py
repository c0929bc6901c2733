"""Networks in the format of the author's code, written for the tests.

Plain PyTorch, from the published description: torchvision's names; the block
is one more entry of layer3, right before its last residual unit.
"""

import math

import torch
from torch import nn

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
GROUPS, ORDER, GAMMA = 8, 3, 1e-4


class FrozenNorm(nn.Module):
    """maskrcnn-benchmark's: four buffers, no eps."""

    def __init__(self, channels):
        super().__init__()
        for name, value in dict(
            weight=1.0, bias=0.0, running_mean=0.0, running_var=1.0
        ).items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        def column(v):
            return v[:, None, None]

        x = (x - column(self.running_mean)) / column(self.running_var.sqrt())
        return x * column(self.weight) + column(self.bias)


class Unit(nn.Module):
    """Bottleneck; the stride is in the 3x3, or (caffe) in the first 1x1."""

    def __init__(self, inputs, planes, stride, norm, caffe=False):
        super().__init__()
        s1, s2 = (stride, 1) if caffe else (1, stride)
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, s1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, s2, 1, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                norm(outputs),
            )

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (
            y + (x if self.downsample is None else self.downsample(x))
        ).relu()


class Block(nn.Module):
    """'cgnl' (dot product), 'cgnlx' (RBF, order 3) or 'nl'."""

    def __init__(self, channels, kind):
        super().__init__()
        self.kind = kind
        inner = channels // 2
        for name in 'tpg':
            setattr(self, name, nn.Conv2d(channels, inner, 1, bias=False))
        groups = 1 if kind == 'nl' else GROUPS
        self.z = nn.Conv2d(inner, channels, 1, groups=groups, bias=False)
        if kind == 'nl':
            self.bn = nn.BatchNorm2d(channels)
        else:
            self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x):
        t, p, g = self.t(x), self.p(x), self.g(x)
        if self.kind == 'nl':
            t, p, g = (v.flatten(2) for v in (t, p, g))
            affinity = torch.einsum('bcs,bcr->bsr', t, p)
            affinity = (affinity / math.sqrt(t.shape[1])).softmax(-1)
            y = torch.einsum('bsr,bcr->bcs', affinity, g)
            return self.bn(self.z(y.reshape(self.t(x).shape))) + x
        # (batch, group, all that attends)
        t, p, g = (v.reshape(len(x), GROUPS, -1) for v in (t, p, g))
        if self.kind == 'cgnl':
            y = (p * g).sum(-1, keepdim=True) * t
        else:
            y = 0
            for power in range(ORDER + 1):
                c = (2 * GAMMA) ** power / math.factorial(power)
                c *= math.exp(-2 * GAMMA)
                y = y + c * (p**power * g).sum(-1, keepdim=True) * t**power
        return self.gn(self.z(y.reshape(self.t(x).shape))) + x


def stage(index, depth, width, block, norm, caffe=False):
    planes = width * 2**index
    inputs = width if index == 0 else 2 * planes
    units = []
    for unit in range(UNITS[depth][index]):
        if index == 2 and block and unit == UNITS[depth][index] - 1:
            units.append(Block(inputs, block))
        stride = 2 if index and unit == 0 else 1
        units.append(Unit(inputs, planes, stride, norm, caffe))
        inputs = 4 * planes
    return nn.Sequential(*units)


class Classifier(nn.Module):
    """The author's network for CUB (200 classes) and ImageNet (1000)."""

    def __init__(self, depth=50, block=None, classes=200, width=8):
        super().__init__()
        norm = nn.BatchNorm2d
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        for index in range(4):
            layer = stage(index, depth, width, block, norm)
            setattr(self, f'layer{index + 1}', layer)
        self.fc = nn.Linear(32 * width, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for index in range(4):
            x = getattr(self, f'layer{index + 1}')(x)
        return self.fc(x.mean((2, 3)))


def child(**modules):
    parent = nn.Module()
    for name, module in modules.items():
        parent.add_module(name, module)
    return parent


class DetectorC4(nn.Module):
    """maskrcnn-benchmark's R-50-C4 with the author's block, by its names.

    The box and the mask head share the last stage, and both name it.
    """

    def __init__(self, block=None, width=64):
        super().__init__()
        body = child(
            stem=child(
                conv1=nn.Conv2d(3, width, 7, 2, 3, bias=False),
                bn1=FrozenNorm(width),
            )
        )
        for index in range(3):
            layer = stage(index, 50, width, block, FrozenNorm, caffe=True)
            body.add_module(f'layer{index + 1}', layer)
        head = child(layer4=stage(3, 50, width, None, FrozenNorm, caffe=True))
        self.backbone = child(body=body)
        channels = 16 * width
        anchors = nn.Module()
        anchors.register_buffer('0', torch.zeros(15, 4))
        self.rpn = child(
            anchor_generator=child(cell_anchors=anchors),
            head=child(
                conv=nn.Conv2d(channels, 8, 3),
                cls_logits=nn.Conv2d(channels, 15, 1),
                bbox_pred=nn.Conv2d(channels, 60, 1),
            ),
        )
        extractor = child(head=head)
        self.roi_heads = child(
            box=child(
                feature_extractor=extractor,
                predictor=child(
                    cls_score=nn.Linear(2 * channels, 81),
                    bbox_pred=nn.Linear(2 * channels, 324),
                ),
            ),
            mask=child(
                feature_extractor=extractor,
                predictor=child(
                    conv5_mask=nn.ConvTranspose2d(2 * channels, 8, 2, 2),
                    mask_fcn_logits=nn.Conv2d(8, 81, 1),
                ),
            ),
        )

    def features(self, x):
        """Output of layer3."""
        body = self.backbone.body
        x = body.stem.bn1(body.stem.conv1(x)).relu()
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for index in range(3):
            x = getattr(body, f'layer{index + 1}')(x)
        return x

    def last_stage(self, x):
        return self.roi_heads.box.feature_extractor.head.layer4(x)


def train_a_little(network):
    """Leave nothing at its initial value, block norms included."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif 'running_var' in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() == 1:
                tensor.uniform_(0.2, 1.0)
                if 'mean' in name or 'bias' in name:
                    tensor.sub_(0.6)
    return network.eval()
