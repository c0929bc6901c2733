"""Networks in the format of the author's code, written for the tests.

From the published description: torchvision's units and names. The block is
one more entry of layer3, right before its last residual unit.
"""

import math

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
GROUPS, ORDER, GAMMA = 8, 3, 1e-4


def unit(inputs, planes, stride):
    downsample = None
    if inputs != 4 * planes:
        convolution = nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False)
        downsample = nn.Sequential(convolution, nn.BatchNorm2d(4 * planes))
    return Bottleneck(inputs, planes, stride, downsample)


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


def stage(index, depth, width, block):
    planes = width * 2**index
    inputs = width if index == 0 else 2 * planes
    units = []
    for number in range(UNITS[depth][index]):
        if index == 2 and block and number == UNITS[depth][index] - 1:
            units.append(Block(inputs, block))
        stride = 2 if index and number == 0 else 1
        units.append(unit(inputs, planes, stride))
        inputs = 4 * planes
    return nn.Sequential(*units)


class Classifier(ResNet):
    """The author's network for CUB (200 classes) and ImageNet (1000)."""

    def __init__(self, depth=50, block=None, classes=200, width=8):
        nn.Module.__init__(self)  # torchvision's is 64 wide
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        for index in range(4):
            layer = stage(index, depth, width, block)
            setattr(self, f'layer{index + 1}', layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32 * width, classes)


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
