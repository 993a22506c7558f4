"""MobileNet-v1 (arXiv 1704.04861) and v2 (arXiv 1801.04381): depthwise separable convolutions."""

from collections.abc import Sequence

import jax
from flax import nnx

from pfrl.models.zoo.layers import (
    BatchNorm,
    Factory,
    Function,
    Stack,
    conv,
    conv_bn_act,
    for_images,
    scaled,
)

V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""``(channels, stride)`` of every block (arXiv 1704.04861, table 1).

The table gives the last block stride 2; as in all released networks it is 1,
which alone fits the 7×7×1024 that the table writes behind it.
"""

V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""``(expansion, channels, blocks, stride of the first)`` (arXiv 1801.04381, table 2)."""


class MobileNetV1(nnx.Module):
    """A 3×3 convolution, then blocks of a depthwise 3×3 and a 1×1 convolution, and a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Every
    convolution is followed by BN and, as in the paper, ReLU (ReLU6 in the
    released code).

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels, α in the paper.
      small_images: leave out the stem's stride.
      blocks: ``(channels, stride)`` of every block.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        small_images: bool = False,
        blocks: Sequence[tuple[int, int]] = V1_BLOCKS,
        *,
        rngs: nnx.Rngs,
    ):
        c_in = scaled(32, width)
        layers = [conv_bn_act(in_channels, c_in, 3, 1 if small_images else 2, rngs=rngs)]
        for channels, stride in blocks:
            c_out = scaled(channels, width)
            depthwise = conv_bn_act(c_in, c_in, 3, stride, groups=c_in, rngs=rngs)
            layers.append(Stack([depthwise, conv_bn_act(c_in, c_out, rngs=rngs)]))
            c_in = c_out
        self.features = Stack(layers)
        self.fc = nnx.Linear(c_in, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(self.features(x).mean(axis=(1, 2)))


class InvertedResidual(nnx.Module):
    """Widen by a 1×1 convolution, filter depthwise, narrow without activation (figure 3b).

    ``[N, H, W, c_in]`` to ``[N, ceil(H / stride), ceil(W / stride), c_out]``; a
    residual sum if that is the same shape. Activations are ReLU6.

    Args:
      c_in: channels of the input.
      c_out: channels of the output.
      expansion: channels inside for one of the input; with 1 nothing is widened.
      stride: of the depthwise convolution.
      kernel: its side.
      epsilon: of the normalisations.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        expansion: int,
        stride: int,
        kernel: int = 3,
        epsilon: float = 1e-5,
        *,
        rngs: nnx.Rngs,
    ):
        hidden = c_in * expansion
        relu6 = jax.nn.relu6
        layers: list[Function] = []
        if expansion != 1:
            layers.append(conv_bn_act(c_in, hidden, activation=relu6, epsilon=epsilon, rngs=rngs))
        layers += [
            conv_bn_act(
                hidden,
                hidden,
                kernel,
                stride,
                groups=hidden,
                activation=relu6,
                epsilon=epsilon,
                rngs=rngs,
            ),
            conv(hidden, c_out, 1, rngs=rngs),
            BatchNorm(c_out, epsilon=epsilon),
        ]
        self.conv = Stack(layers)
        self.residual = stride == 1 and c_in == c_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nnx.Module):
    """A 3×3 convolution, inverted residual blocks, a 1×1 convolution and a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``. Names are
    torchvision's: ``features.1.conv.0.0.kernel``, ``classifier.1.bias``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      width: factor on all channels but the last 1280, which it does not make fewer.
      dropout: rate before the linear head.
      small_images: leave out the stem's stride.
      divisor: all numbers of channels are multiples of it.
      stages: ``(expansion, channels, blocks, stride of the first)``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.2,
        small_images: bool = False,
        divisor: int = 8,
        stages: Sequence[tuple[int, int, int, int]] = V2_STAGES,
        *,
        rngs: nnx.Rngs,
    ):
        relu6 = jax.nn.relu6
        c_in = scaled(32, width, divisor)
        stem = 1 if small_images else 2
        layers: list[Function] = [
            conv_bn_act(in_channels, c_in, 3, stem, activation=relu6, rngs=rngs)
        ]
        for expansion, channels, blocks, stride in stages:
            c_out = scaled(channels, width, divisor)
            for i in range(blocks):
                step = stride if i == 0 else 1
                layers.append(InvertedResidual(c_in, c_out, expansion, step, rngs=rngs))
                c_in = c_out
        last = scaled(1280, max(width, 1.0), divisor)
        layers.append(conv_bn_act(c_in, last, activation=relu6, rngs=rngs))
        self.features = Stack(layers)
        self.classifier = Stack(
            [nnx.Dropout(dropout, rngs=rngs), nnx.Linear(last, num_classes, rngs=rngs)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.features(x).mean(axis=(1, 2)))


MODELS: dict[str, Factory] = {
    "mobilenet_v1": for_images(MobileNetV1),
    "mobilenet_v2": for_images(MobileNetV2),
}
"""Factories by name."""
