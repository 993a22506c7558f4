"""The zoo's ResNet-20 (arXiv 1512.03385, section 4.2) in PyTorch, for comparisons of speed."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3×3 convolutions and a residual sum; shortcuts of option A."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new = stride, c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """``[N, 3, 32, 32]`` to logits ``[N, num_classes]``."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [Block(c_in, c_out, 1 if c_in == c_out else 2) for c_in, c_out in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


def resnet20(num_classes: int) -> nn.Module:
    """A fresh network with PyTorch's initial values."""
    return ResNet20(num_classes)
