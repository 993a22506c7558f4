"""VGG with batch normalisation (arXiv 1409.1556, table 1, column D, and arXiv 1502.03167)."""

from collections.abc import Sequence

import jax
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, Factory, Function, Stack, conv, max_pool_ceil, scaled

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of every stage."""

POOLED = 7
"""Pixels a side, at most, that the classifier sees."""


class VGG(nnx.Module):
    """Stages of 3×3 convolutions, each with 2×2 max pooling, then three dense layers.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Names are
    torchvision's (``features.0.kernel``, ``classifier.6.bias``) and, like there,
    the convolutions have biases although a normalisation follows.

    The features are averaged to 7×7 where they are larger (images of more than
    224 pixels); smaller ones are taken as they are, 1×1 for images of 32. They are
    flattened rows first, channels last.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      image_size: ``(H, W)`` in pixels; the first dense layer is made for it.
      width: factor on the channels of all convolutions.
      hidden: width of the two hidden dense layers.
      dropout: rate before the second and the third dense layer.
      stages: channels of the convolutions of every stage; VGG-16's by default.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        width: float = 1.0,
        hidden: int = 4096,
        dropout: float = 0.5,
        stages: Sequence[Sequence[int]] = VGG16,
        *,
        rngs: nnx.Rngs,
    ):
        layers: list[Function] = []
        c_in = in_channels
        for stage in stages:
            for channels in stage:
                c_out = scaled(channels, width)
                convolution = conv(c_in, c_out, 3, bias=True, rngs=rngs)
                layers += [convolution, BatchNorm(c_out), jax.nn.relu]
                c_in = c_out
            layers.append(_halve)
        self.features = Stack(layers)
        rows, columns = (_pooled_side(side, len(stages)) for side in image_size)
        self.classifier = Stack(
            [
                nnx.Linear(rows * columns * c_in, hidden, rngs=rngs),
                jax.nn.relu,
                nnx.Dropout(dropout, rngs=rngs),
                nnx.Linear(hidden, hidden, rngs=rngs),
                jax.nn.relu,
                nnx.Dropout(dropout, rngs=rngs),
                nnx.Linear(hidden, num_classes, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = average_to(self.features(x), POOLED)
        return self.classifier(x.reshape(x.shape[0], -1))


def _halve(x: jax.Array) -> jax.Array:
    """2×2 max pooling that keeps the last pixel of an odd side."""
    return max_pool_ceil(x, 2)


def _pooled_side(side: int, stages: int) -> int:
    return min(-(-side // 2**stages), POOLED)


def average_to(x: jax.Array, most: int) -> jax.Array:
    """Averages of equal windows, so that no side is longer than ``most`` pixels.

    The same as adaptive average pooling to ``most`` where that divides the side.
    """
    if max(x.shape[1:3]) <= most:
        return x
    strides = tuple(max(side // most, 1) for side in x.shape[1:3])
    rows, columns = (
        side - (min(side, most) - 1) * step
        for side, step in zip(x.shape[1:3], strides, strict=True)
    )
    return nnx.avg_pool(x, (rows, columns), strides=strides)


def _vgg16_bn(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    height, width, channels = image_shape
    return VGG(num_classes, channels, (height, width), rngs=rngs)


MODELS: dict[str, Factory] = {"vgg16_bn": _vgg16_bn}
"""Factories by name."""
