"""ShuffleNet-v2 (arXiv 1807.11164): split the channels, work on one half, join and shuffle."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.layers import BatchNorm, conv

SMALL_IMAGE = 64
"""Below this many pixels a side the stem keeps the resolution: the rest still halves it thrice."""


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Interleave ``groups`` equal runs of channels (arXiv 1707.01083, section 3.1).

    ``[N, H, W, C]`` to the same shape: channel ``i`` of run ``g`` becomes
    channel ``i * groups + g``. C must be a multiple of ``groups``.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, groups, channels // groups)
    x = x.transpose(0, 1, 2, 4, 3)
    return x.reshape(batch, height, width, channels)


def _depthwise(channels: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        channels,
        channels,
        (3, 3),
        strides=(stride, stride),
        padding=1,
        feature_group_count=channels,
        use_bias=False,
        rngs=rngs,
    )


def _branch(c_in: int, channels: int, stride: int, rngs: nnx.Rngs) -> nnx.Sequential:
    """1×1, depthwise and 1×1 convolutions, with ReLU behind all but the depthwise one."""
    return nnx.Sequential(
        conv(c_in, channels, 1, rngs=rngs),
        BatchNorm(channels),
        jax.nn.relu,
        _depthwise(channels, stride, rngs),
        BatchNorm(channels),
        conv(channels, channels, 1, rngs=rngs),
        BatchNorm(channels),
        jax.nn.relu,
    )


class ShuffleUnit(nnx.Module):
    """Figure 3c: half of the channels pass untouched, the other half through the branch.

    ``[N, H, W, channels]`` to the same shape.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        half = channels // 2
        self.branch2 = _branch(half, half, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        kept, x = jnp.split(x, 2, axis=-1)
        x = jnp.concatenate([kept, self.branch2(x)], axis=-1)
        return channel_shuffle(x, 2)


class DownUnit(nnx.Module):
    """Figure 3d: both branches see all channels and take every second pixel.

    ``[N, H, W, c_in]`` to ``[N, ceil(H / 2), ceil(W / 2), c_out]``.
    """

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        half = c_out // 2
        self.branch1 = nnx.Sequential(
            _depthwise(c_in, 2, rngs),
            BatchNorm(c_in),
            conv(c_in, half, 1, rngs=rngs),
            BatchNorm(half),
            jax.nn.relu,
        )
        self.branch2 = _branch(c_in, half, 2, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.concatenate([self.branch1(x), self.branch2(x)], axis=-1)
        return channel_shuffle(x, 2)


class ShuffleNetV2(nnx.Module):
    """A stem, three stages that halve the image, a 1×1 convolution and a linear head (table 5).

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      widths: channels of the stem, the three stages (even) and the last
        convolution; the paper's 1.0x by default.
      depths: units of the stages.
      small_images: leave out the stem's stride and its max pooling.

    Raises:
      ValueError: if a stage has an odd number of channels, which cannot be split.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: tuple[int, int, int, int, int] = (24, 116, 232, 464, 1024),
        depths: Sequence[int] = (4, 8, 4),
        small_images: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        stem, *stages, last = widths
        if any(channels % 2 for channels in stages):
            raise ValueError(
                f"ShuffleNet-v2 splits channels in halves: expected even widths, got {stages}"
            )
        self.small_images = small_images
        self.conv1 = nnx.Sequential(
            conv(in_channels, stem, 3, 1 if small_images else 2, rngs=rngs),
            BatchNorm(stem),
            jax.nn.relu,
        )
        self.stage2 = _stage(stem, stages[0], depths[0], rngs)
        self.stage3 = _stage(stages[0], stages[1], depths[1], rngs)
        self.stage4 = _stage(stages[1], stages[2], depths[2], rngs)
        self.conv5 = nnx.Sequential(
            conv(stages[2], last, 1, rngs=rngs), BatchNorm(last), jax.nn.relu
        )
        self.fc = nnx.Linear(last, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(x)
        if not self.small_images:
            # Flax takes pairs of integers too, which its annotation leaves out.
            pads = ((1, 1), (1, 1))
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=pads)  # pyright: ignore[reportArgumentType]
        for stage in (self.stage2, self.stage3, self.stage4):
            for unit in stage:
                x = unit(x)
        x = self.conv5(x)
        return self.fc(x.mean(axis=(1, 2)))


def _stage(c_in: int, c_out: int, depth: int, rngs: nnx.Rngs) -> nnx.List[nnx.Module]:
    units = [ShuffleUnit(c_out, rngs=rngs) for _ in range(depth - 1)]
    return nnx.List([DownUnit(c_in, c_out, rngs=rngs), *units])


def _shufflenet_v2(
    num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs
) -> nnx.Module:
    small = min(image_shape[:2]) < SMALL_IMAGE
    return ShuffleNetV2(num_classes, image_shape[-1], small_images=small, rngs=rngs)


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "shufflenet_v2": _shufflenet_v2,
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``."""
