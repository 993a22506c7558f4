"""Vision Transformers (arXiv 2010.11929) in the sizes of DeiT (arXiv 2012.12877): ViT-tiny/16."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from pfrl.models.zoo.patches import Mlp, PatchEmbed, choose_patch, count_patches


class FusedAttention(nnx.Module):
    """Multi-head self-attention with queries, keys and values from one linear layer.

    Tokens ``[N, T, width]`` to the same shape. The output of ``qkv`` is ordered
    as in timm: which of the three, then the head, then the channel within it.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, *, rngs: nnx.Rngs):
        self.heads = heads
        self.head_width = width // heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        self.attn_drop = nnx.Dropout(dropout, rngs=rngs) if dropout > 0 else None

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_width)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = jax.nn.softmax(q @ k.swapaxes(-2, -1) / math.sqrt(self.head_width), axis=-1)
        if self.attn_drop is not None:
            weights = self.attn_drop(weights)
        x = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, width)
        return self.proj(x)


class Block(nnx.Module):
    """Attention and a perceptron, each behind a LayerNorm and in a residual sum (equations 2, 3).

    Tokens ``[N, T, width]`` to the same shape.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float = 0.0,
        fused_qkv: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        if fused_qkv:
            self.attn = FusedAttention(width, heads, dropout, rngs=rngs)
        else:
            self.attn = nnx.MultiHeadAttention(
                heads, width, dropout_rate=dropout, deterministic=False, decode=False, rngs=rngs
            )
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp = Mlp(width, hidden, dropout, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs) if dropout > 0 else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.attn(self.norm1(x))
        if self.drop is not None:
            y = self.drop(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nnx.Module):
    """Patches, a class token, position embeddings, pre-norm blocks, a head on the class token.

    Images ``[N, H, W, in_channels]`` to logits ``[N, num_classes]``.

    Args:
      num_classes: width of the logits.
      in_channels: channels of the images.
      image_size: ``(H, W)`` in pixels; the position embeddings are made for it.
      patch: side of a patch, in pixels.
      width: of a token; the default widths, depth and heads are DeiT-tiny's.
      depth: blocks.
      heads: of the attention.
      mlp_ratio: width of the hidden layers over that of a token.
      dropout: after the position embeddings, the attention weights, the
        attention and both layers of the perceptrons (0 in DeiT).
      fused_qkv: one linear layer for queries, keys and values, as timm has it,
        in place of ``nnx.MultiHeadAttention``, which has three.

    Raises:
      ValueError: if patches do not fill the image or heads do not divide the width.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        patch: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        fused_qkv: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(
                f"{heads} heads do not divide a width of {width};"
                " choose a width that is a multiple of the heads"
            )
        tokens = 1 + count_patches(image_size, patch)
        normal = nnx.initializers.truncated_normal(0.02)
        self.patch_embed = PatchEmbed(in_channels, width, patch, rngs=rngs)
        self.cls_token = nnx.Param(normal(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(normal(rngs.params(), (1, tokens, width)))
        self.pos_drop = nnx.Dropout(dropout, rngs=rngs) if dropout > 0 else None
        self.blocks = nnx.List(
            [
                Block(width, heads, mlp_ratio * width, dropout, fused_qkv, rngs=rngs)
                for _ in range(depth)
            ]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch_embed(x)
        cls_token = jnp.broadcast_to(self.cls_token[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([cls_token, x], axis=1) + self.pos_embed[...]
        if self.pos_drop is not None:
            x = self.pos_drop(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0])


def _vit_tiny(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    """Patches of 16 pixels at 224; smaller ones for smaller images."""
    height, width, channels = image_shape
    patch = choose_patch((height, width))
    return VisionTransformer(num_classes, channels, (height, width), patch, rngs=rngs)


MODELS: dict[str, Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]] = {
    "vit_tiny": _vit_tiny,
}
"""Factories by name: ``(num_classes, (H, W, C), rngs)``."""
