"""U-Net (arXiv 1505.04597): an encoder, a decoder, and skip connections between equal sizes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, conv


class DoubleConv(nnx.Module):
    """Twice a padded 3×3 convolution, BN and ReLU: ``[N, H, W, c_in]`` to ``[N, H, W, c_out]``.

    The paper's convolutions are unpadded and have no normalisation; with both,
    the output is as large as the input.
    """

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        self.conv1 = conv(c_in, c_out, 3, rngs=rngs)
        self.bn1 = BatchNorm(c_out)
        self.conv2 = conv(c_out, c_out, 3, rngs=rngs)
        self.bn2 = BatchNorm(c_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        return jax.nn.relu(self.bn2(self.conv2(x)))


class Up(nnx.Module):
    """A transposed 2×2 convolution to half the channels, the skip before it, and a double one.

    ``[N, H, W, c_in]`` and a skip ``[N, 2H, 2W, c_out]`` to ``[N, 2H, 2W, c_out]``.
    """

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        self.up = nnx.ConvTranspose(c_in, c_out, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)
        self.conv = DoubleConv(2 * c_out, c_out, rngs=rngs)

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        return self.conv(jnp.concatenate([skip, self.up(x)], axis=-1))


class UNet(nnx.Module):
    """Images ``[N, H, W, in_channels]`` to logits of every pixel, ``[N, H, W, num_classes]``.

    Args:
      num_classes: logits a pixel.
      in_channels: channels of the images.
      widths: channels at full resolution and after every halving; the paper's
        four halvings by default.

    Raises:
      ValueError: in a call, if H or W is no multiple of ``2 ** (len(widths) - 1)``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        *,
        rngs: nnx.Rngs,
    ):
        self.multiple = 2 ** (len(widths) - 1)
        channels = [in_channels, *widths]
        self.downs = nnx.List(
            [DoubleConv(channels[i], channels[i + 1], rngs=rngs) for i in range(len(widths))]
        )
        self.ups = nnx.List(
            [Up(widths[i], widths[i - 1], rngs=rngs) for i in range(len(widths) - 1, 0, -1)]
        )
        self.outc = nnx.Conv(widths[0], num_classes, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        _check_size(x.shape[1], x.shape[2], self.multiple)
        skips = []
        for i, down in enumerate(self.downs):
            if i > 0:
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = up(x, skips.pop())
        return self.outc(x)


def _check_size(height: int, width: int, multiple: int) -> None:
    if height % multiple or width % multiple:
        raise ValueError(
            f"U-Net halves the image {multiple.bit_length() - 1} times: expected sides that are"
            f" multiples of {multiple}, got {width}x{height}; resize or pad the images"
        )


def _unet(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    height, width, channels = image_shape
    _check_size(height, width, 16)
    return UNet(num_classes, channels, rngs=rngs)


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "unet": _unet,
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``."""
