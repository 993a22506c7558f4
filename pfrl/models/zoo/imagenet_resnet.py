"""Residual networks for ImageNet (arXiv 1512.03385, table 1): ResNet-18, 34 and 50."""

from collections.abc import Sequence
from functools import partial

import jax
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, Factory, Stack, conv, for_images, scaled

WIDTHS = (64, 128, 256, 512)
"""Channels of the stages, inside of their blocks."""

EXPANSION = 4
"""Channels of a bottleneck block's output for one inside of it."""


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions and the residual sum.

    ``[N, H, W, c_in]`` to ``[N, ceil(H / stride), ceil(W / stride), channels]``.
    """

    def __init__(self, c_in: int, channels: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(c_in, channels, 3, stride, rngs=rngs)
        self.bn1 = BatchNorm(channels)
        self.conv2 = conv(channels, channels, 3, rngs=rngs)
        self.bn2 = BatchNorm(channels)
        self.downsample = _shortcut(c_in, channels, stride, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """1×1, 3×3 and 1×1 convolutions and the residual sum.

    ``[N, H, W, c_in]`` to ``[N, ceil(H / stride), ceil(W / stride), 4 * channels]``.
    The stride is the 3×3 convolution's, as in torchvision; the paper has it at the
    first 1×1 one, which costs 6 % less in ResNet-50.
    """

    def __init__(self, c_in: int, channels: int, stride: int, *, rngs: nnx.Rngs):
        c_out = EXPANSION * channels
        self.conv1 = conv(c_in, channels, 1, rngs=rngs)
        self.bn1 = BatchNorm(channels)
        self.conv2 = conv(channels, channels, 3, stride, rngs=rngs)
        self.bn2 = BatchNorm(channels)
        self.conv3 = conv(channels, c_out, 1, rngs=rngs)
        self.bn3 = BatchNorm(c_out)
        self.downsample = _shortcut(c_in, c_out, stride, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(c_in: int, c_out: int, stride: int, rngs: nnx.Rngs) -> Stack | None:
    """A 1×1 convolution where the shape changes (option B)."""
    if stride == 1 and c_in == c_out:
        return None
    return Stack([conv(c_in, c_out, 1, stride, rngs=rngs), BatchNorm(c_out)])


class ImageNetResNet(nnx.Module):
    """A stem of stride 4, four stages of residual blocks and a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Names are
    torchvision's: ``layer2.0.downsample.0.kernel``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      blocks: number of blocks of every stage; ResNet-50's by default.
      bottleneck: blocks of three convolutions, with four times as many channels
        between them as inside; otherwise of two.
      width: factor on all channels.
      small_images: leave out the stem's stride and its max pooling.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        blocks: Sequence[int] = (3, 4, 6, 3),
        bottleneck: bool = True,
        width: float = 1.0,
        small_images: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        block = Bottleneck if bottleneck else BasicBlock
        self.small_images = small_images
        c_in = scaled(WIDTHS[0], width)
        self.conv1 = conv(in_channels, c_in, 7, 1 if small_images else 2, rngs=rngs)
        self.bn1 = BatchNorm(c_in)
        stages = []
        for number, (channels, depth) in enumerate(zip(WIDTHS, blocks, strict=True)):
            channels = scaled(channels, width)
            members = []
            for i in range(depth):
                stride = 2 if number > 0 and i == 0 else 1
                members.append(block(c_in, channels, stride, rngs=rngs))
                c_in = EXPANSION * channels if bottleneck else channels
            stages.append(Stack(members))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nnx.Linear(c_in, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            # Flax takes pairs of integers too, which its annotation leaves out.
            pads = ((1, 1), (1, 1))
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=pads)  # pyright: ignore[reportArgumentType]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean(axis=(1, 2)))


MODELS: dict[str, Factory] = {
    "resnet18": for_images(partial(ImageNetResNet, blocks=(2, 2, 2, 2), bottleneck=False)),
    "resnet34": for_images(partial(ImageNetResNet, blocks=(3, 4, 6, 3), bottleneck=False)),
    "resnet50": for_images(ImageNetResNet),
}
"""Factories by name."""
