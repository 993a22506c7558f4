"""SqueezeNet 1.1 (arXiv 1602.07360, in its authors' second release): squeeze, then expand twice."""

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import Factory, Function, Stack, conv, for_images, max_pool_ceil, scaled

STAGES = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)
"""``(squeezed, expanded)`` of the fire modules between poolings."""


class Fire(nnx.Module):
    """A 1×1 convolution to few channels, then a 1×1 and a 3×3 one side by side (figure 1).

    ``[N, H, W, c_in]`` to ``[N, H, W, 2 * expanded]``; ReLU everywhere.
    """

    def __init__(self, c_in: int, squeezed: int, expanded: int, *, rngs: nnx.Rngs):
        self.squeeze = conv(c_in, squeezed, 1, bias=True, rngs=rngs)
        self.expand1x1 = conv(squeezed, expanded, 1, bias=True, rngs=rngs)
        self.expand3x3 = conv(squeezed, expanded, 3, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.squeeze(x))
        left, right = jax.nn.relu(self.expand1x1(x)), jax.nn.relu(self.expand3x3(x))
        return jnp.concatenate([left, right], axis=-1)


class SqueezeNet(nnx.Module):
    """A stem, fire modules, and a 1×1 convolution to the classes whose outputs are averaged.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``, which are
    means of ReLUs and so never negative. There is no normalisation. Names are
    torchvision's: ``features.3.squeeze.kernel``, ``classifier.1.bias``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels.
      dropout: rate before the last convolution.
      small_images: pad the stem, and leave out its stride and its max pooling;
        otherwise sides must be 3 pixels or more.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        small_images: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        c_in = scaled(64, width)
        stem = nnx.Conv(
            in_channels,
            c_in,
            (3, 3),
            strides=1 if small_images else 2,
            padding="SAME" if small_images else "VALID",
            kernel_init=nnx.initializers.he_normal(),
            rngs=rngs,
        )
        layers: list[Function] = [stem, jax.nn.relu]
        for number, stage in enumerate(STAGES):
            # An identity in the stem's place of the pooling leaves all names as they are.
            layers.append(_identity if number == 0 and small_images else _halve)
            for squeezed, expanded in stage:
                expanded = scaled(expanded, width)
                layers.append(Fire(c_in, scaled(squeezed, width), expanded, rngs=rngs))
                c_in = 2 * expanded
        self.features = Stack(layers)
        last = nnx.Conv(
            c_in, num_classes, (1, 1), kernel_init=nnx.initializers.normal(0.01), rngs=rngs
        )
        self.classifier = Stack([nnx.Dropout(dropout, rngs=rngs), last, jax.nn.relu])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.features(x)).mean(axis=(1, 2))


def _halve(x: jax.Array) -> jax.Array:
    return max_pool_ceil(x, 3)


def _identity(x: jax.Array) -> jax.Array:
    return x


MODELS: dict[str, Factory] = {"squeezenet": for_images(SqueezeNet)}
"""Factories by name."""
