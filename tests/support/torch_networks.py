"""Small PyTorch networks as people have them, with random numbers in them, and their ONNX files."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + skip)


class ResNet(nn.Module):
    """Basic blocks behind a max pool, as torchvision's."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class InvertedResidual(nn.Module):
    def __init__(self, c_in, c_out, stride, squeeze):
        super().__init__()
        self.shortcut = stride == 1 and c_in == c_out
        self.expand = nn.Sequential(nn.Conv2d(c_in, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.depth = nn.Sequential(
            nn.Conv2d(16, 16, 3, stride, 1, groups=16, bias=False), nn.BatchNorm2d(16)
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(16, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, 16, 1),
            nn.Hardsigmoid(),
        ) if squeeze else None  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(16, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = nn.functional.relu6(self.depth(nn.functional.hardswish(self.expand(x))))
        if self.squeeze is not None:
            y = y * self.squeeze(y)
        y = self.project(y)
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """Inverted residuals (v2) with hard swish and squeeze-and-excite (v3)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.blocks = nn.Sequential(
            InvertedResidual(8, 8, 1, False), InvertedResidual(8, 8, 2, True)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 10))

    def forward(self, x):
        x = self.blocks(nn.functional.relu6(self.stem(x)))
        return self.classifier(x.mean([2, 3]))


class DenseNet(nn.Module):
    """Pre-activation layers that are joined, a transition with an average pool."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        widths = (8, 12, 16)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths])
        self.convs = nn.ModuleList([nn.Conv2d(width, 4, 3, 1, 1) for width in widths[:2]])
        self.transition = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms[:2], self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu(norm(x)))], 1)
        x = self.transition(torch.relu(self.norms[2](x)))
        x = nn.functional.avg_pool2d(x, 4)
        return self.head(x.flatten(1))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        n, t, w = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, w))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Patches, a class token, position embeddings, attention."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.position = nn.Parameter(torch.zeros(1, 17, 16))
        self.blocks = nn.Sequential(Block(16, 2))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Encoder(nn.Module):
    """PyTorch's own transformer layer over the pixels of a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.layer(self.conv(x).flatten(2).transpose(1, 2))
        return self.head(x.mean(1))


class TokensFirst(nn.Module):
    """PyTorch's own attention, inside of which images lie on the second axis, and a class token."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.position = nn.Parameter(torch.zeros(1, 17, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.conv(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x[:, 0])


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, skips; a map as its answer."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = self._conv(3, 8), self._conv(8, 12)
        self.middle = self._conv(12, 16)
        self.up = nn.ConvTranspose2d(16, 12, 2, 2)
        self.up2, self.up1 = self._conv(24, 8), self._conv(16, 8)
        self.out = nn.Conv2d(8, 3, 1)

    @staticmethod
    def _conv(c_in, c_out):
        conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.1))

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(nn.functional.max_pool2d(a, 2))
        y = self.up(self.middle(nn.functional.max_pool2d(b, 2)))
        y = self.up2(torch.cat([b, y], 1))
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear")
        return self.out(self.up1(torch.cat([a, y], 1)))


class ShuffleNet(nn.Module):
    """A channel shuffle and a split, as ShuffleNet v2."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        a, b = torch.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat([a, torch.relu(self.branch(b))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


class ConvNeXt(nn.Module):
    """A normalisation of each pixel's channels, a scale of each channel, and places that are
    counted from the sizes of the batch, as EdgeNeXt's."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.place = nn.Conv2d(2, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.last = nn.LayerNorm(16), nn.LayerNorm(16)
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 16)
        self.gamma = nn.Parameter(torch.ones(16))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.patch(x)
        n, _, h, w = x.shape
        ones = ~torch.zeros(n, h, w, dtype=torch.bool)
        places = torch.stack([ones.cumsum(axis, dtype=torch.float32) for axis in (1, 2)], 1)
        x = x + self.place(places.sin())
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.fc2(nn.functional.gelu(self.fc1(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(self.last(x.mean((2, 3))))


class StandardisedConv(nn.Conv2d):
    """Its kernel has mean 0 and variance 1 in every output channel, as timm's ScaledStdConv2d."""

    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(c_out))

    def forward(self, x):
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = nn.functional.batch_norm(rows, None, None, weight=self.gain, training=True)
        return nn.functional.conv2d(x, rows.reshape_as(self.weight) * 0.1, self.bias, padding=1)


class NormalizerFree(nn.Module):
    """Standardised kernels in the place of normalised activations (arXiv 2101.08692)."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv1, self.conv2 = (
            StandardisedConv(*channels) for channels in ((3, 16), (16, 24), (24, 16))
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.stem(x)), 4)
        x = x + self.conv2(torch.relu(self.conv1(x)))
        return self.head(torch.relu(x).mean((2, 3)))


NETWORKS = {
    each.__name__: each
    for each in (
        ResNet,
        MobileNet,
        DenseNet,
        VisionTransformer,
        Encoder,
        TokensFirst,
        UNet,
        ShuffleNet,
        ConvNeXt,
        NormalizerFree,
    )
}
SIZE = 16
"""Pixels a side that all of them take."""


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """All parameters and statistics anew, such that no channel is dead and logits are not small."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.dtype.is_floating_point:
                continue
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(torch.rand_like(value) + 0.5)
            elif value.ndim == 1:
                value.copy_(0.3 * torch.randn_like(value) + 0.2)
            else:
                value.copy_(torch.randn_like(value) / value[0].numel() ** 0.5)
    return network.eval()


def exported(
    network: nn.Module,
    path: Path,
    how: str = "fold",
    dynamic: bool = True,
    opset: int | None = None,
) -> Path:
    """An ONNX file by PyTorch's exporter.

    Args:
      network: in evaluation mode.
      path: of the file.
      how: 'fold' and 'keep' are the older exporter, with constants folded or normalisations kept;
        'dynamo' is the newer one.
      dynamic: whether the number of examples is free.
      opset: of the file; by default the exporter's own.
    """
    x = torch.zeros(2 if dynamic else 1, 3, SIZE, SIZE)
    options: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    options["opset_version"] = opset
    if how == "dynamo":
        batch = torch.export.Dim("batch")
        options |= {"dynamo": True, "dynamic_shapes": ({0: batch},) if dynamic else None}
    else:
        keep = torch.onnx.TrainingMode.PRESERVE, torch.onnx.TrainingMode.EVAL
        options |= {
            "dynamo": False,
            "do_constant_folding": how == "fold",
            "training": keep[how == "fold"],
            "dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None,
        }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), **options)
    return path
