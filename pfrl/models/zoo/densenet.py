"""Densely connected networks for small images (arXiv 1608.06993, section 4): DenseNet-40-12."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, conv


class DenseLayer(nnx.Module):
    """BN, ReLU and a 3×3 convolution to ``growth`` channels, put behind the input.

    ``[N, H, W, c_in]`` to ``[N, H, W, c_in + growth]``; no bottleneck.
    """

    def __init__(self, c_in: int, growth: int, *, rngs: nnx.Rngs):
        self.bn1 = BatchNorm(c_in)
        self.conv1 = conv(c_in, growth, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1(jax.nn.relu(self.bn1(x)))
        return jnp.concatenate([x, y], axis=-1)


class Transition(nnx.Module):
    """BN, ReLU, a 1×1 convolution and 2×2 average pooling: half the height and the width."""

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        self.bn1 = BatchNorm(c_in)
        self.conv1 = conv(c_in, c_out, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(jax.nn.relu(self.bn1(x)))
        return nnx.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNet(nnx.Module):
    """Depth ``3n + 4``: three dense blocks of ``n`` layers with transitions between them.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``; H and W are
    4 or more, since both transitions halve them.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      depth: 40 in the paper; 7, 10, 13, ...
      growth: channels that a layer adds, k in the paper.
      width: channels of the first convolution: 16 in the paper's networks
        without bottlenecks, twice the growth in its released code.

    Raises:
      ValueError: if ``depth`` is not ``3n + 4``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 40,
        growth: int = 12,
        width: int = 16,
        *,
        rngs: nnx.Rngs,
    ):
        if depth < 7 or (depth - 4) % 3:
            raise ValueError(f"a DenseNet's depth is 3n + 4 (7, 10, 13, ...), got {depth}")
        layers = (depth - 4) // 3
        self.conv1 = conv(in_channels, width, 3, rngs=rngs)
        self.block1 = _block(width, growth, layers, rngs)
        width += layers * growth
        self.trans1 = Transition(width, width, rngs=rngs)
        self.block2 = _block(width, growth, layers, rngs)
        width += layers * growth
        self.trans2 = Transition(width, width, rngs=rngs)
        self.block3 = _block(width, growth, layers, rngs)
        width += layers * growth
        self.bn1 = BatchNorm(width)
        self.linear = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(x)
        for layer in self.block1:
            x = layer(x)
        x = self.trans1(x)
        for layer in self.block2:
            x = layer(x)
        x = self.trans2(x)
        for layer in self.block3:
            x = layer(x)
        x = jax.nn.relu(self.bn1(x))
        return self.linear(x.mean(axis=(1, 2)))


def _block(c_in: int, growth: int, layers: int, rngs: nnx.Rngs) -> nnx.List[DenseLayer]:
    return nnx.List([DenseLayer(c_in + i * growth, growth, rngs=rngs) for i in range(layers)])


def _densenet40(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    height, width, channels = image_shape
    if min(height, width) < 4:
        raise ValueError(
            f"DenseNet needs images of 4x4 pixels or more, got {width}x{height};"
            " choose another network or larger images"
        )
    return DenseNet(num_classes, channels, rngs=rngs)


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "densenet40": _densenet40,
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``."""
