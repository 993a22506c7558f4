"""EfficientNet-lite0: EfficientNet-B0 (arXiv 1905.11946) without what mobile runtimes dislike."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
from flax import nnx

from pfrl.models.zoo.layers import Factory, Function, Stack, conv_bn_act, for_images, scaled
from pfrl.models.zoo.mobilenet import InvertedResidual

EPSILON = 1e-3
"""Of the normalisations, as in the released code."""


class Stage(NamedTuple):
    """Equal blocks: side of the depthwise kernel, expansion, channels, number, first stride."""

    kernel: int
    expansion: int
    channels: int
    blocks: int
    stride: int


B0 = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
"""Table 1 of the paper."""


class EfficientNetLite(nnx.Module):
    """A 3×3 convolution, stages of inverted residual blocks, a 1×1 convolution, a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Against
    EfficientNet there is no squeeze-and-excite, and ReLU6 replaces swish (the
    authors' ``tensorflow/tpu``, ``models/official/efficientnet/lite``). Strided
    convolutions pad both sides alike, and stochastic depth is left out. Names
    follow torchvision's: ``features.2.0.conv.0.0.kernel``, ``classifier.1.bias``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels but those of the stem and the last
        convolution, which it does not make more.
      dropout: rate before the linear head.
      small_images: leave out the stem's stride.
      divisor: all numbers of channels are multiples of it.
      stages: the table; lite0's by default.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.2,
        small_images: bool = False,
        divisor: int = 8,
        stages: Sequence[Stage] = B0,
        *,
        rngs: nnx.Rngs,
    ):
        relu6 = partial(conv_bn_act, activation=jax.nn.relu6, epsilon=EPSILON, rngs=rngs)
        c_in = scaled(32, min(width, 1.0), divisor)
        layers: list[Function] = [relu6(in_channels, c_in, 3, 1 if small_images else 2)]
        for kernel, expansion, channels, blocks, stride in stages:
            c_out = scaled(channels, width, divisor)
            members = []
            for i in range(blocks):
                step = stride if i == 0 else 1
                members.append(
                    InvertedResidual(c_in, c_out, expansion, step, kernel, EPSILON, rngs=rngs)
                )
                c_in = c_out
            layers.append(Stack(members))
        last = scaled(1280, min(width, 1.0), divisor)
        layers.append(relu6(c_in, last))
        self.features = Stack(layers)
        self.classifier = Stack(
            [nnx.Dropout(dropout, rngs=rngs), nnx.Linear(last, num_classes, rngs=rngs)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.features(x).mean(axis=(1, 2)))


MODELS: dict[str, Factory] = {"efficientnet_lite0": for_images(EfficientNetLite)}
"""Factories by name."""
