"""ResNet-20, ResNet-50 and ViT-tiny in PyTorch, for comparisons.

ResNet-50 and ViT-tiny are as torchvision and timm have them, the equals of
``pfrl.models.zoo.imagenet_resnet`` and ``pfrl.models.zoo.vit``: a parameter is called ``weight``
where ours is a ``kernel`` or a ``scale``, and otherwise the same.
Attention reads its widths from its layers, so that the networks also run pruned.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

EXPANSION = 4
"""Channels of a bottleneck block's output for one inside of it."""


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions and the residual sum.

    ``[N, c_in, H, W]`` to ``[N, 4 * channels, ceil(H / stride), ceil(W / stride)]``.
    """

    def __init__(self, c_in: int, channels: int, stride: int):
        super().__init__()
        c_out = EXPANSION * channels
        self.conv1 = nn.Conv2d(c_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Images ``[N, 3, H, W]`` to logits ``[N, num_classes]``; 64 pixels a side or more."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        c_in = 64
        self.conv1 = nn.Conv2d(3, c_in, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        stages = []
        for number, (channels, depth) in enumerate(
            zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)
        ):
            blocks = []
            for i in range(depth):
                blocks.append(Bottleneck(c_in, channels, 2 if number > 0 and i == 0 else 1))
                c_in = EXPANSION * channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a residual sum; shortcuts of option A."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new = stride, c_out - c_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """The zoo's ResNet-20 (arXiv 1512.03385, section 4.2).

    ``[N, 3, 32, 32]`` to logits ``[N, num_classes]``.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [
            BasicBlock(c_in, c_out, 1 if c_in == c_out else 2) for c_in, c_out in pairwise(widths)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


class Attention(nn.Module):
    """Multi-head self-attention of tokens ``[N, T, width]``, a linear layer each for q, k and v.

    Attributes:
      heads: how many; whoever removes some says so here.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    @property
    def projections(self) -> list[nn.Linear]:
        """The layers that make queries, keys and values."""
        return [self.query, self.key, self.value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in self.projections
        )
        return self.out(_attend(q, k, v, self.scale).reshape(batch, tokens, -1))


class FusedAttention(nn.Module):
    """As ``Attention``, with queries, keys and values from one linear layer, as timm has it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    @property
    def projections(self) -> list[nn.Linear]:
        """The layer that makes queries, keys and values."""
        return [self.qkv]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(_attend(q, k, v, self.scale).reshape(batch, tokens, -1))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """``[N, heads, T, width of a head]`` each, to ``[N, T, heads, width of a head]``."""
    return ((q @ k.transpose(-2, -1) * scale).softmax(-1) @ v).transpose(1, 2)


class PatchEmbed(nn.Module):
    """A linear map of every patch: ``[N, 3, H, W]`` to ``[N, H W / patch², width]``."""

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    """Linear, GELU, linear: ``[..., width]`` to the same shape."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNorm and in a residual sum."""

    def __init__(self, width: int, heads: int, hidden: int, fused: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = (FusedAttention if fused else Attention)(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViTTiny(nn.Module):
    """Images ``[N, 3, size, size]`` to logits ``[N, num_classes]``; width, heads of DeiT-tiny.

    Args:
      num_classes: width of the logits.
      size, patch: sides of the image and of a patch, in pixels.
      depth: blocks.
      fused: queries, keys and values come from one linear layer.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        size: int = 224,
        patch: int = 16,
        depth: int = 12,
        fused: bool = False,
    ):
        super().__init__()
        width, heads = 192, 3
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """All parameters and statistics anew, in place, so that no zero or one hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim == 1:
                value.normal_(0, 0.1, generator=generator)
            else:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    return model
