"""MLP-Mixer (arXiv 2105.01601): perceptrons along the tokens and along the channels, in turn."""

from collections.abc import Callable

import jax
from flax import nnx

from pfrl.models.zoo.patches import Mlp, PatchEmbed, choose_patch, count_patches


class MixerBlock(nnx.Module):
    """Token mixing and channel mixing, each behind a LayerNorm and in a residual sum (equation 1).

    Tokens ``[N, tokens, width]`` to the same shape.
    """

    def __init__(
        self, tokens: int, width: int, tokens_hidden: int, channels_hidden: int, *, rngs: nnx.Rngs
    ):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp_tokens = Mlp(tokens, tokens_hidden, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp_channels = Mlp(width, channels_hidden, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm1(x).swapaxes(1, 2)
        x = x + self.mlp_tokens(y).swapaxes(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class MlpMixer(nnx.Module):
    """Patches, blocks of two perceptrons, the mean over all tokens, a linear head.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      image_size: ``(H, W)`` in pixels; token mixing is made for it.
      patch: side of a patch, in pixels.
      width: of a token, C in the paper; the defaults are table 1's S/16.
      depth: blocks.
      tokens_hidden: hidden width of the perceptrons along tokens, D_S.
      channels_hidden: hidden width of those along channels, D_C.

    Raises:
      ValueError: if patches do not fill the image.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        patch: int = 16,
        width: int = 512,
        depth: int = 8,
        tokens_hidden: int = 256,
        channels_hidden: int = 2048,
        *,
        rngs: nnx.Rngs,
    ):
        tokens = count_patches(image_size, patch)
        self.stem = PatchEmbed(in_channels, width, patch, rngs=rngs)
        self.blocks = nnx.List(
            [
                MixerBlock(tokens, width, tokens_hidden, channels_hidden, rngs=rngs)
                for _ in range(depth)
            ]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=1))


def _mixer(
    width: int, depth: int, tokens_hidden: int, channels_hidden: int
) -> Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]:
    def make(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
        height, breadth, channels = image_shape
        return MlpMixer(
            num_classes,
            channels,
            (height, breadth),
            choose_patch((height, breadth)),
            width,
            depth,
            tokens_hidden,
            channels_hidden,
            rngs=rngs,
        )

    return make


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "mixer_s16": _mixer(512, 8, 256, 2048),
    "mixer_tiny": _mixer(128, 4, 64, 512),
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``.

Patches have 16 pixels at 224 and fewer on smaller images; ``mixer_tiny`` is a
quarter of S/16 in every width and half of it in depth.
"""
