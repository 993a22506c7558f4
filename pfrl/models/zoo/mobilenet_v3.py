"""MobileNet-v3-small (arXiv 1905.02244): inverted residuals with squeeze-and-excite, hard-swish."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
from flax import nnx

from pfrl.models.zoo.layers import Factory, Function, Stack, conv, conv_bn_act, for_images, scaled

EPSILON = 1e-3
"""Of the normalisations, as in the released code."""


class Block(NamedTuple):
    """A row of the paper's table.

    Attributes:
      kernel: side of the depthwise convolution.
      expanded: channels inside.
      channels: of the output.
      squeeze: whether there is squeeze-and-excite.
      activation: ReLU or hard-swish.
      stride: of the depthwise convolution.
    """

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: Function
    stride: int


_relu = jax.nn.relu
_hard_swish = jax.nn.hard_swish

SMALL = (
    Block(3, 16, 16, True, _relu, 2),
    Block(3, 72, 24, False, _relu, 2),
    Block(3, 88, 24, False, _relu, 1),
    Block(5, 96, 40, True, _hard_swish, 2),
    Block(5, 240, 40, True, _hard_swish, 1),
    Block(5, 240, 40, True, _hard_swish, 1),
    Block(5, 120, 48, True, _hard_swish, 1),
    Block(5, 144, 48, True, _hard_swish, 1),
    Block(5, 288, 96, True, _hard_swish, 2),
    Block(5, 576, 96, True, _hard_swish, 1),
    Block(5, 576, 96, True, _hard_swish, 1),
)
"""Table 2, the small network."""


class SqueezeExcite(nnx.Module):
    """Scale every channel by a function of the mean of all (arXiv 1709.01507).

    ``[N, H, W, channels]`` to the same shape; two 1×1 convolutions on the means,
    ReLU between them and a hard sigmoid behind.
    """

    def __init__(self, channels: int, squeezed: int, *, rngs: nnx.Rngs):
        self.fc1 = conv(channels, squeezed, 1, bias=True, rngs=rngs)
        self.fc2 = conv(squeezed, channels, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = x.mean(axis=(1, 2), keepdims=True)
        scale = jax.nn.relu(self.fc1(scale))
        return x * jax.nn.hard_sigmoid(self.fc2(scale))


class InvertedResidual(nnx.Module):
    """Widen, filter depthwise, squeeze and excite, narrow without activation (figure 4).

    ``[N, H, W, c_in]`` to ``[N, ceil(H / stride), ceil(W / stride), channels]``; a
    residual sum if that is the same shape. The squeeze leaves a quarter of the
    expanded channels, in multiples of ``divisor``.
    """

    def __init__(self, c_in: int, settings: Block, divisor: int = 8, *, rngs: nnx.Rngs):
        kernel, expanded, channels, squeeze, activation, stride = settings
        norm_act = partial(conv_bn_act, activation=activation, epsilon=EPSILON, rngs=rngs)
        layers: list[Function] = []
        if expanded != c_in:
            layers.append(norm_act(c_in, expanded))
        layers.append(norm_act(expanded, expanded, kernel, stride, groups=expanded))
        if squeeze:
            squeezed = scaled(expanded // 4, 1.0, divisor)
            layers.append(SqueezeExcite(expanded, squeezed, rngs=rngs))
        layers.append(
            conv_bn_act(expanded, channels, activation=_identity, epsilon=EPSILON, rngs=rngs)
        )
        self.block = Stack(layers)
        self.residual = stride == 1 and c_in == channels

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.block(x)
        return x + y if self.residual else y


def _identity(x: jax.Array) -> jax.Array:
    return x


class MobileNetV3(nnx.Module):
    """A 3×3 convolution, inverted residual blocks, a 1×1 convolution and two dense layers.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Names are
    torchvision's: ``features.1.block.1.fc1.kernel``, ``classifier.3.bias``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels.
      dropout: rate before the last dense layer.
      small_images: leave out the stem's stride.
      divisor: all numbers of channels are multiples of it.
      blocks: the table; the small network's by default.
      hidden: width of the dense layer between features and logits, before ``width``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.2,
        small_images: bool = False,
        divisor: int = 8,
        blocks: Sequence[Block] = SMALL,
        hidden: int = 1024,
        *,
        rngs: nnx.Rngs,
    ):
        swish = partial(conv_bn_act, activation=_hard_swish, epsilon=EPSILON, rngs=rngs)
        c_in = scaled(16, width, divisor)
        layers: list[Function] = [swish(in_channels, c_in, 3, 1 if small_images else 2)]
        for block in blocks:
            settings = block._replace(
                expanded=scaled(block.expanded, width, divisor),
                channels=scaled(block.channels, width, divisor),
            )
            layers.append(InvertedResidual(c_in, settings, divisor, rngs=rngs))
            c_in = settings.channels
        layers.append(swish(c_in, 6 * c_in))
        self.features = Stack(layers)
        hidden = scaled(hidden, width, divisor)
        self.classifier = Stack(
            [
                nnx.Linear(6 * c_in, hidden, rngs=rngs),
                _hard_swish,
                nnx.Dropout(dropout, rngs=rngs),
                nnx.Linear(hidden, num_classes, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.features(x).mean(axis=(1, 2)))


MODELS: dict[str, Factory] = {"mobilenet_v3_small": for_images(MobileNetV3)}
"""Factories by name."""
