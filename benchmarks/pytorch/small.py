"""Networks of the zoo for small images in PyTorch, to train beside ours: the same sums.

They have as many parameters as those of ``pfrl.models.zoo`` at 32 pixels a side.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.pytorch.models import ResNet20

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _normalized(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=bias)
    layers = [convolution, nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([] if activation is None else [activation(inplace=True)]))


class _Residual(nn.Module):
    """A sum of what two branches yield, either of which may be the input itself."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None, last: Callable | None):
        super().__init__()
        self.body, self.shortcut, self.last = body, shortcut, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return y if self.last is None else self.last(y)


class _Dense(nn.Module):
    """What a layer of a DenseNet adds to its input."""

    def __init__(self, c_in: int, growth: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


def _head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def resnet18(num_classes: int) -> nn.Module:
    """ResNet-18 (arXiv 1512.03385), its stem without stride and pooling."""
    layers: list[nn.Module] = [_normalized(3, 64, 7)]
    c_in = 64
    for number, channels in enumerate((64, 128, 256, 512)):
        for stride in (2 if number else 1, 1):
            first = _normalized(c_in, channels, 3, stride)
            body = nn.Sequential(first, _normalized(channels, channels, 3, activation=None))
            changes = stride > 1 or c_in != channels
            shortcut = _normalized(c_in, channels, 1, stride, activation=None) if changes else None
            layers.append(_Residual(body, shortcut, F.relu))
            c_in = channels
    return nn.Sequential(*layers, *_head(c_in, num_classes))


def mobilenet_v2(num_classes: int) -> nn.Module:
    """MobileNet-v2 (arXiv 1801.04381), its stem without stride."""
    normalized = partial(_normalized, activation=nn.ReLU6)
    layers: list[nn.Module] = [normalized(3, 32, 3)]
    c_in = 32
    for expansion, c_out, blocks, first in V2_STAGES:
        for stride in (first, *[1] * (blocks - 1)):
            hidden = c_in * expansion
            wide = [normalized(c_in, hidden, 1)] if expansion > 1 else []
            deep = normalized(hidden, hidden, 3, stride, groups=hidden)
            body = nn.Sequential(*wide, deep, _normalized(hidden, c_out, 1, activation=None))
            same = stride == 1 and c_in == c_out
            layers.append(_Residual(body, None, None) if same else body)
            c_in = c_out
    layers += [normalized(c_in, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(1280, num_classes))


def vgg16_bn(num_classes: int) -> nn.Module:
    """VGG-16 with batch normalisation and its classifier of 4,096 units (arXiv 1409.1556)."""
    layers: list[nn.Module] = []
    c_in = 3
    for stage in VGG16:
        for channels in stage:
            layers.append(_normalized(c_in, channels, 3, bias=True))
            c_in = channels
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for width in (4096, 4096):
        layers += [nn.Linear(c_in, width), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        c_in = width
    return nn.Sequential(*layers, nn.Linear(c_in, num_classes))


def densenet40(num_classes: int) -> nn.Module:
    """DenseNet-40 of growth 12, without bottlenecks (arXiv 1608.06993, section 4)."""
    growth, channels = 12, 16
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range(12):
            layers.append(_Dense(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        if block < 2:
            layers += [nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, *_head(channels, num_classes))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet20": ResNet20,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "vgg16_bn": vgg16_bn,
    "densenet40": densenet40,
}
"""By name of the zoo, ``number of classes -> network``."""
