"""ConvNeXt (arXiv 2201.03545): a residual network with the ingredients of a Transformer."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

# Weights of standard deviation 0.02, as in the authors' code.
_conv = partial(nnx.Conv, kernel_init=nnx.initializers.truncated_normal(0.02))
_linear = partial(nnx.Linear, kernel_init=nnx.initializers.truncated_normal(0.02))

LAYER_SCALE = 1e-6
"""What ``gamma`` starts from: blocks begin as the identity (arXiv 2103.17239)."""


class ConvNeXtBlock(nnx.Module):
    """Depthwise 7×7, LayerNorm, a perceptron of 4 times the width with GELU, layer scale.

    ``[N, H, W, channels]`` to the same shape (figure 4).

    Args:
      channels: of the input and the output.
      drop_path: share of the images of a batch, in training, that the branch is
        left out for (stochastic depth, arXiv 1603.09382).
    """

    def __init__(self, channels: int, drop_path: float = 0.0, *, rngs: nnx.Rngs):
        self.dwconv = _conv(
            channels, channels, (7, 7), padding=3, feature_group_count=channels, rngs=rngs
        )
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.pwconv1 = _linear(channels, 4 * channels, rngs=rngs)
        self.pwconv2 = _linear(4 * channels, channels, rngs=rngs)
        self.gamma = nnx.Param(jnp.full((channels,), LAYER_SCALE))
        # One draw an image: the whole branch stays or goes.
        self.drop_path = (
            nnx.Dropout(drop_path, broadcast_dims=(1, 2, 3), rngs=rngs) if drop_path > 0 else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.dwconv(x))
        y = jax.nn.gelu(self.pwconv1(y), approximate=False)
        y = self.gamma[...] * self.pwconv2(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        return x + y


class Downsample(nnx.Module):
    """LayerNorm and a 2×2 convolution with stride 2: half the height and the width."""

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(c_in, rngs=rngs)
        self.conv = _conv(c_in, c_out, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(self.norm(x))


class ConvNeXt(nnx.Module):
    """Patches, then stages of blocks with down-sampling between them, and a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      widths: channels of the stages; ConvNeXt-tiny's by default.
      depths: blocks of the stages.
      patch: side of the stem's patches, in pixels.
      drop_path: stochastic depth of the last block; it grows linearly from 0 at
        the first (0.1 in the paper's ConvNeXt-tiny).

    Raises:
      ValueError: in a call, if the images are too small for all stages:
        the sides must be ``patch * 2 ** (stages - 1)`` pixels or more.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (3, 3, 9, 3),
        patch: int = 4,
        drop_path: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ):
        self.smallest = patch * 2 ** (len(widths) - 1)
        self.stem = _conv(
            in_channels,
            widths[0],
            (patch, patch),
            strides=(patch, patch),
            padding="VALID",
            rngs=rngs,
        )
        self.stem_norm = nnx.LayerNorm(widths[0], rngs=rngs)
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path * i / last for i in range(sum(depths))])
        stages, downsamples = [], []
        for i, (channels, depth) in enumerate(zip(widths, depths, strict=True)):
            if i > 0:
                downsamples.append(Downsample(widths[i - 1], channels, rngs=rngs))
            blocks = [ConvNeXtBlock(channels, next(rates), rngs=rngs) for _ in range(depth)]
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.downsamples = nnx.List(downsamples)
        self.norm = nnx.LayerNorm(widths[-1], rngs=rngs)
        self.head = _linear(widths[-1], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        _check_size(x.shape[1], x.shape[2], self.smallest)
        x = self.stem_norm(self.stem(x))
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.downsamples[i - 1](x)
            for block in stage:
                x = block(x)
        return self.head(self.norm(x.mean(axis=(1, 2))))


def _check_size(height: int, width: int, smallest: int) -> None:
    if min(height, width) < smallest:
        raise ValueError(
            f"ConvNeXt needs images of {smallest}x{smallest} pixels or more here, got"
            f" {width}x{height}; choose smaller patches, fewer stages or larger images"
        )


def _convnext_tiny(
    num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs
) -> nnx.Module:
    """Patches of 4 pixels, or of 2 or 1 where the last of three halvings would leave nothing."""
    height, width, channels = image_shape
    patch = min(4, 2 ** max((min(height, width) // 8).bit_length() - 1, 0))
    _check_size(height, width, 8 * patch)
    return ConvNeXt(num_classes, channels, patch=patch, rngs=rngs)


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "convnext_tiny": _convnext_tiny,
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``."""
