"""GoogLeNet (arXiv 1409.4842, table 1) with batch normalisation: branches side by side."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import (
    BatchNorm,
    Factory,
    Stack,
    conv,
    for_images,
    max_pool_ceil,
    scaled,
)


class Branches(NamedTuple):
    """Channels of an inception module's convolutions: a row of the paper's table.

    Attributes:
      single: the 1×1 branch.
      reduce2, branch2: the 1×1 and the 3×3 convolution of the second.
      reduce3, branch3: those of the third.
      pooled: the 1×1 convolution behind the pooling.
    """

    single: int
    reduce2: int
    branch2: int
    reduce3: int
    branch3: int
    pooled: int

    @property
    def channels(self) -> int:
        """Of the module's output."""
        return self.single + self.branch2 + self.branch3 + self.pooled


TABLE = {
    "3a": Branches(64, 96, 128, 16, 32, 32),
    "3b": Branches(128, 128, 192, 32, 96, 64),
    "4a": Branches(192, 96, 208, 16, 48, 64),
    "4b": Branches(160, 112, 224, 24, 64, 64),
    "4c": Branches(128, 128, 256, 24, 64, 64),
    "4d": Branches(112, 144, 288, 32, 64, 64),
    "4e": Branches(256, 160, 320, 32, 128, 128),
    "5a": Branches(256, 160, 320, 32, 128, 128),
    "5b": Branches(384, 192, 384, 48, 128, 128),
}


WINDOWS = {"3": 3, "4": 2}
"""Of the max pooling behind the modules of a stage."""


class ConvBN(nnx.Module):
    """A convolution, BN and ReLU: ``[N, H, W, c_in]`` to ``[N, ceil(H / stride), ..., c_out]``."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, *, rngs: nnx.Rngs):
        self.conv = conv(c_in, c_out, kernel, stride, rngs=rngs)
        self.bn = BatchNorm(c_out, epsilon=1e-3)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(self.conv(x)))


class Inception(nnx.Module):
    """Four branches on the same input, concatenated (figure 2b).

    ``[N, H, W, c_in]`` to ``[N, H, W, widths.channels]``. The third branch has a
    3×3 kernel where the paper has 5×5, as in torchvision and the published weights.
    """

    def __init__(self, c_in: int, widths: Branches, *, rngs: nnx.Rngs):
        self.branch1 = ConvBN(c_in, widths.single, rngs=rngs)
        self.branch2 = Stack(
            [
                ConvBN(c_in, widths.reduce2, rngs=rngs),
                ConvBN(widths.reduce2, widths.branch2, 3, rngs=rngs),
            ]
        )
        self.branch3 = Stack(
            [
                ConvBN(c_in, widths.reduce3, rngs=rngs),
                ConvBN(widths.reduce3, widths.branch3, 3, rngs=rngs),
            ]
        )
        self.branch4 = Stack([_smooth, ConvBN(c_in, widths.pooled, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return jnp.concatenate([branch(x) for branch in branches], axis=-1)


def _smooth(x: jax.Array) -> jax.Array:
    """3×3 max pooling that keeps the size."""
    return nnx.max_pool(x, (3, 3), padding="SAME")


class GoogLeNet(nnx.Module):
    """Three convolutions, nine inception modules and a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. As in
    torchvision, BN replaces the paper's local response normalisation, and names
    are the same: ``inception3a.branch2.1.conv.kernel``. The two auxiliary heads
    are left out: they serve training only and are no part of what is deployed.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels.
      dropout: rate before the linear head; 0.4 in the paper, 0.2 in torchvision.
      modules: those of ``TABLE`` that it has, of every stage one at least.
      small_images: leave out the stem's stride and its first max pooling.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.4,
        small_images: bool = False,
        modules: tuple[str, ...] = tuple(TABLE),
        *,
        rngs: nnx.Rngs,
    ):
        self.small_images = small_images
        stem, c_in = scaled(64, width), scaled(192, width)
        self.conv1 = ConvBN(in_channels, stem, 7, 1 if small_images else 2, rngs=rngs)
        self.conv2 = ConvBN(stem, stem, rngs=rngs)
        self.conv3 = ConvBN(stem, c_in, 3, rngs=rngs)
        self.inceptions = modules
        for name in modules:
            widths = Branches(*(scaled(channels, width) for channels in TABLE[name]))
            setattr(self, f"inception{name}", Inception(c_in, widths, rngs=rngs))
            c_in = widths.channels
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.fc = nnx.Linear(c_in, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(x)
        if not self.small_images:
            x = max_pool_ceil(x, 3)
        x = max_pool_ceil(self.conv3(self.conv2(x)), 3)
        stage = "3"
        for name in self.inceptions:
            if name[0] != stage:
                x, stage = max_pool_ceil(x, WINDOWS[stage]), name[0]
            x = getattr(self, f"inception{name}")(x)
        return self.fc(self.dropout(x.mean(axis=(1, 2))))


MODELS: dict[str, Factory] = {"googlenet": for_images(GoogLeNet)}
"""Factories by name."""
