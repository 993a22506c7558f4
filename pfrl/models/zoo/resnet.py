"""CIFAR residual networks (arXiv 1512.03385, section 4.2) and their plain counterparts."""

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, Factory, conv


class PadShortcut(nnx.Module):
    """Option A: take every second pixel and pad the new channels with zeros, half on each side."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        self.stride = stride
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before

    def __call__(self, x: jax.Array) -> jax.Array:
        for axis in (1, 2):
            x = jax.lax.slice_in_dim(x, 0, None, self.stride, axis)
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


class ConvShortcut(nnx.Module):
    """Option B: a 1×1 convolution with batch normalisation."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, rngs: nnx.Rngs):
        self.conv = conv(c_in, c_out, 1, stride, rngs=rngs)
        self.bn = BatchNorm(c_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn(self.conv(x))


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions and, where ``shortcut`` is 'A' or 'B', the residual sum."""

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: str | None, *, rngs: nnx.Rngs):
        self.conv1 = conv(c_in, c_out, 3, stride, rngs=rngs)
        self.bn1 = BatchNorm(c_out)
        self.conv2 = conv(c_out, c_out, 3, rngs=rngs)
        self.bn2 = BatchNorm(c_out)
        self.residual = shortcut is not None
        changes_shape = stride != 1 or c_in != c_out
        if shortcut == "A" and changes_shape:
            self.shortcut = PadShortcut(c_in, c_out, stride)
        elif shortcut == "B" and changes_shape:
            self.shortcut = ConvShortcut(c_in, c_out, stride, rngs=rngs)
        else:
            self.shortcut = None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return jax.nn.relu(y)


class CifarResNet(nnx.Module):
    """Depth ``6n + 2``: three stages of ``n`` blocks, ``width``, 2 and 4 times ``width`` channels.

    Args:
      depth: 8, 20, 32, 44, 56, 110, ...
      num_classes: width of the logits.
      in_channels: channels of the images, ``[N, H, W, in_channels]``.
      width: channels of the first stage.
      shortcut: 'A' (zero padding), 'B' (1×1 convolution) or None (a plain network).

    Raises:
      ValueError: if ``depth`` is not ``6n + 2``.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str | None = "A",
        *,
        rngs: nnx.Rngs,
    ):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet's depth is 6n + 2 (8, 14, 20, ...), got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = conv(in_channels, width, 3, rngs=rngs)
        self.bn1 = BatchNorm(width)
        stages = []
        c_in = width
        for stage in range(3):
            c_out = width * 2**stage
            members = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                members.append(BasicBlock(c_in, c_out, stride, shortcut, rngs=rngs))
                c_in = c_out
            stages.append(nnx.List(members))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nnx.Linear(c_in, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                x = block(x)
        return self.linear(x.mean(axis=(1, 2)))


def _resnet(depth: int, shortcut: str | None) -> Factory:
    def make(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
        return CifarResNet(depth, num_classes, image_shape[-1], shortcut=shortcut, rngs=rngs)

    return make


DEPTHS = (8, 20, 32, 44, 56, 110)

MODELS: dict[str, Factory] = {
    "plain20": _resnet(20, None),
    **{f"resnet{depth}": _resnet(depth, "A") for depth in DEPTHS},
    **{f"resnet{depth}b": _resnet(depth, "B") for depth in DEPTHS},
}
"""Factories by name; a ``b`` at the end means shortcuts of option B (1×1 convolutions)."""
