"""What networks of patches share: the patch embedding and the two-layer perceptron."""

import jax
from flax import nnx

FEWEST = 7
"""Patches a side, at least, where the choice is ours: 16 pixels at 224, 4 at 32 and at 28."""


class PatchEmbed(nnx.Module):
    """A linear map of every ``patch`` × ``patch`` square (arXiv 2010.11929, equation 1).

    ``[N, H, W, in_channels]`` to tokens ``[N, H W / patch², width]``, row by row.
    """

    def __init__(self, in_channels: int, width: int, patch: int, *, rngs: nnx.Rngs):
        self.proj = nnx.Conv(
            in_channels,
            width,
            (patch, patch),
            strides=(patch, patch),
            padding="VALID",
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.proj(x)
        batch, rows, columns, width = x.shape
        return x.reshape(batch, rows * columns, width)


class Mlp(nnx.Module):
    """Linear, GELU, linear along the last axis: ``[..., width]`` to the same shape."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs) if dropout > 0 else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.gelu(self.fc1(x), approximate=False)
        if self.drop is not None:
            x = self.drop(x)
        x = self.fc2(x)
        return x if self.drop is None else self.drop(x)


def count_patches(image_size: tuple[int, int], patch: int) -> int:
    """Patches of an image ``(H, W)``.

    Raises:
      ValueError: if they do not fill it.
    """
    height, width = image_size
    if height % patch or width % patch:
        raise ValueError(
            f"patches of {patch}x{patch} pixels do not fill images of {width}x{height};"
            " choose a patch that divides both sides"
        )
    return (height // patch) * (width // patch)


def choose_patch(image_size: tuple[int, int]) -> int:
    """The largest of 16, 8, 4, 2 and 1 pixels that divides both sides into ``FEWEST`` or more.

    1 where none does.
    """
    height, width = image_size
    for patch in (16, 8, 4, 2):
        if not (height % patch or width % patch) and min(height, width) // patch >= FEWEST:
            return patch
    return 1
