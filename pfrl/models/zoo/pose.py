"""Heat-map networks: a residual network that keeps its places, and a map for every key point."""

import jax
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, Factory, conv
from pfrl.models.zoo.resnet import BasicBlock

SMALL_IMAGE = 32
"""Below this many pixels a side the maps are as large as the image."""


class PoseNet(nnx.Module):
    """Images ``[N, H, W, in_channels]`` to maps ``[N, H / 4, W / 4, points]``, rounded up.

    The three stages of the CIFAR ResNet of depth 8 (arXiv 1512.03385) and a
    1×1 convolution. The heat maps of simple baselines (arXiv 1804.06208) come
    out of transposed convolutions behind a deeper trunk; with this short one
    the maps have their quarter of the resolution without any.

    Args:
      points: maps.
      in_channels: channels of the images.
      width: channels of the first stage; the others have 2 and 4 times as many.
      small_images: no stage halves the resolution: maps ``[N, H, W, points]``.
    """

    def __init__(
        self,
        points: int,
        in_channels: int = 3,
        width: int = 16,
        small_images: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        stride = 1 if small_images else 2
        self.conv1 = conv(in_channels, width, 3, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.layer1 = BasicBlock(width, width, 1, "A", rngs=rngs)
        self.layer2 = BasicBlock(width, 2 * width, stride, "A", rngs=rngs)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride, "A", rngs=rngs)
        # Maps are dark but for one spot, so training starts from dark ones, as in the paper.
        start = nnx.initializers.normal(0.001)
        self.head = nnx.Conv(4 * width, points, (1, 1), kernel_init=start, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        return self.head(self.layer3(self.layer2(self.layer1(x))))


def _pose8(points: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    height, width, channels = image_shape
    small = min(height, width) < SMALL_IMAGE
    return PoseNet(points, channels, small_images=small, rngs=rngs)


MODELS: dict[str, Factory] = {"pose8": _pose8}
"""Factories by name: ``(points, (H, W, C), rngs)``."""
