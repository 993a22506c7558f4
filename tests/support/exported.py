"""Small networks with every kind of operation, for the tests of exporters."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.models.zoo.resnet import CifarResNet

RNG = np.random.default_rng(0)
CONV = RNG.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32)
POINT = RNG.normal(0, 0.3, (1, 1, 8, 8)).astype(np.float32)
DENSE = RNG.normal(0, 0.3, (8, 5)).astype(np.float32)
A, B, C, D = RNG.uniform(0.5, 1.5, (4, 8)).astype(np.float32)


def convolve(x, kernel, stride=1, padding="SAME", groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def randomised(make):
    """A module in evaluation mode, its vectors (statistics included) random and positive."""
    graph, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(1)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        if leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        return jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32)

    model = nnx.merge(graph, jax.tree.map(draw, state))
    model.eval()
    return model


def resnet(depth, shortcut, channels, width=4):
    return randomised(lambda: CifarResNet(depth, 5, channels, width, shortcut, rngs=nnx.Rngs(0)))


class LeNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 3, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs)
        self.dense1 = nnx.Linear(2 * 2 * 4, 6, rngs=rngs)
        self.dense2 = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(x.shape[0], -1))))


def odd_mean(x):
    return (nnx.relu(convolve(x, CONV)).sum((1, 2)) / 37.0) @ DENSE


def squeeze_and_excite(x):
    x = nnx.relu6((convolve(x, CONV, 2) - A) * B + C)
    x = nnx.relu6(convolve(x, A * np.ones((3, 3, 1, 8), np.float32), groups=8) * D + C)
    gate = nnx.relu(convolve(x.mean((1, 2), keepdims=True), POINT) + A)
    return (x * nnx.sigmoid(convolve(gate, POINT) + B)).mean((1, 2)) @ DENSE


def normalised_images(x):
    x = (x - jnp.array([0.1, 0.2, 0.3])) / jnp.array([0.5, 0.6, 0.7])
    return nnx.relu(convolve(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), CONV, 2, "VALID"))


def shapes(x):
    y = convolve(x, CONV)
    left, right = jnp.split(y, 2, -1)
    y = jnp.concatenate([right, left, y], -1)[..., jnp.array([3, 1, 8, 0])]
    y = jnp.stack([y, 2 * y], -1).reshape(*y.shape[:3], 8)
    y = jax.lax.pad(y, jnp.float32(0), ((0, 0, 0), (-1, 2, 0), (0, 0, 0), (1, -1, 0)))
    y = y[:, ::2, 1:]
    y = jnp.concatenate([jnp.zeros((*y.shape[:3], 2)), y], -1)
    n, h, w, c = y.shape
    return y.reshape(n, h, w, 2, c // 2).transpose(0, 1, 2, 4, 3).reshape(n, h * w, c).max(1)


def arithmetic(x):
    y = x[:, 1:, ::2]
    y = nnx.leaky_relu(y) + nnx.gelu(y, approximate=False) + nnx.silu(y) - nnx.hard_swish(y)
    y = jnp.where(y > 0.1, y, 0.5) - 1.0 / (1.5 + jnp.square(y)) + (2.0 - y) ** 3
    y = jnp.clip(y, -1.0, 2.0) + jnp.exp(-jnp.abs(y)) + jax.lax.rsqrt(jnp.abs(y) + 1)
    return nnx.softmax(y.reshape(y.shape[0], -1))


def self_attention(x):
    tokens = x.reshape(x.shape[0], -1, 3) @ CONV[0, 0]
    tokens = (tokens - tokens.mean(-1, keepdims=True)) * jax.lax.rsqrt(
        tokens.var(-1, keepdims=True) + 1
    )
    scores = jnp.einsum("nqc,nkc->nqk", tokens, tokens)
    return jnp.einsum("nqk,nkc->nqc", nnx.softmax(scores), tokens).mean(1) @ DENSE


def upsampled(x):
    """Transposed convolutions of which the result is cut, as it is, or goes on at the end."""
    y = nnx.relu(jax.lax.conv_transpose(x, jnp.asarray(CONV), (2, 2), "SAME") * A + B)
    y = jax.lax.conv_transpose(y, jnp.asarray(CONV.swapaxes(2, 3)), (2, 1), "VALID")
    return jax.lax.conv_transpose(y, jnp.asarray(CONV), (3, 2), "SAME", transpose_kernel=False)


def attention_of_heads(x):
    """Queries and keys with an axis of heads, a class token, and a sum over two axes at the end."""
    tokens = x.reshape(x.shape[0], -1, 3)
    first = jnp.broadcast_to(A[:3], (x.shape[0], 1, 3))
    tokens = jnp.concatenate([first, tokens, 2 * first], axis=1) + B[:3]
    heads = jnp.einsum("ntc,chd->nthd", tokens, CONV[0, 0].reshape(3, 2, 4))
    scores = nnx.softmax(jnp.einsum("nqhd,nkhd->nhqk", heads, heads))
    mixed = jnp.einsum("nhqk,nkhd->nqhd", scores, heads)
    return jnp.einsum("nqhd,hdc->nqc", mixed, DENSE.reshape(2, 4, 5))[:, 0]


NETWORKS = {
    "lenet": (randomised(lambda: LeNet(nnx.Rngs(0))), (12, 12, 1)),
    "resnet8-A": (resnet(8, "A", 1), (8, 8, 1)),
    "resnet8-B": (resnet(8, "B", 3), (8, 8, 3)),
    "odd mean": (odd_mean, (6, 6, 3)),
    "squeeze and excite": (squeeze_and_excite, (6, 6, 3)),
    "normalised images": (normalised_images, (6, 6, 3)),
    "shapes": (shapes, (6, 6, 3)),
    "arithmetic": (arithmetic, (4, 4, 2)),
    "self-attention": (self_attention, (3, 3, 3)),
    "upsampled": (upsampled, (4, 5, 3)),
    "attention of heads": (attention_of_heads, (3, 3, 3)),
    "identity": (lambda x: x, (2, 2, 3)),
}
