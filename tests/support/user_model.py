"""Two networks of somebody who knows Flax and has never read this library."""

import jax
import jax.numpy as jnp
from flax import nnx


class SqueezeExcite(nnx.Module):
    """Gates every channel by what all channels are on average: [N, H, W, C] to the same shape."""

    def __init__(self, channels: int, squeezed: int, *, rngs: nnx.Rngs):
        self.reduce = nnx.Linear(channels, squeezed, rngs=rngs)
        self.expand = nnx.Linear(squeezed, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        gate = x.mean(axis=(1, 2))
        gate = jax.nn.relu(self.reduce(gate))
        gate = jax.nn.sigmoid(self.expand(gate))
        return x * gate[:, None, None, :]


class GroupedShuffle(nnx.Module):
    """A grouped 3x3 convolution and a shuffle of its groups.

    [N, H, W, c_in] to [N, H, W, c_out], both multiples of `groups`.
    """

    def __init__(self, c_in: int, c_out: int, groups: int, *, rngs: nnx.Rngs):
        self.groups = groups
        self.conv = nnx.Conv(
            c_in, c_out, kernel_size=(3, 3), feature_group_count=groups, use_bias=False, rngs=rngs
        )
        self.bn = nnx.BatchNorm(c_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn(self.conv(x)))
        n, h, w, c = x.shape
        x = x.reshape(n, h, w, self.groups, c // self.groups)
        return jnp.swapaxes(x, -1, -2).reshape(n, h, w, c)


class Branches(nnx.Module):
    """Three parallel branches side by side: [N, H, W, 12] to [N, H, W, 16].

    1x1 convolution to 4 channels, grouped and shuffled to 8, max pooling and 1x1 to 4.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.point = nnx.Conv(12, 4, kernel_size=(1, 1), rngs=rngs)
        self.grouped = GroupedShuffle(12, 8, groups=4, rngs=rngs)
        self.pooled = nnx.Conv(12, 4, kernel_size=(1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        a = nnx.relu(self.point(x))
        b = self.grouped(x)
        c = nnx.max_pool(x, window_shape=(3, 3), strides=(1, 1), padding="SAME")
        c = nnx.relu(self.pooled(c))
        return jnp.concatenate([a, b, c], axis=-1)


class TiedBottleneck(nnx.Module):
    """One matrix used in both directions, in a residual: [N, C] to [N, C] over `hidden` units."""

    def __init__(self, channels: int, hidden: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal()
        self.weight = nnx.Param(init(rngs.params(), (channels, hidden)))
        self.hidden_bias = nnx.Param(jnp.zeros(hidden))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ self.weight + self.hidden_bias)
        return x + h @ self.weight.T + self.bias


class UserNet(nnx.Module):
    """Images [N, 8, 8, 3] to 5 logits [N, 5], never more than 16 channels.

    `refine` is one layer that is applied at two places, before and after the
    pooling; `left` and `right` are two layers with one kernel and a bias each.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 12, kernel_size=(3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(12, num_groups=3, rngs=rngs)
        self.branches = Branches(rngs=rngs)
        self.se = SqueezeExcite(16, 4, rngs=rngs)
        self.refine = nnx.Conv(16, 16, kernel_size=(3, 3), rngs=rngs)
        self.left = nnx.Linear(16, 10, rngs=rngs)
        self.right = nnx.Linear(16, 10, rngs=rngs)
        self.right.kernel = self.left.kernel
        self.bottleneck = TiedBottleneck(10, 6, rngs=rngs)
        self.out = nnx.Linear(10, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.stem(x)))
        x = self.se(self.branches(x))
        x = x + nnx.relu(self.refine(x))
        x = nnx.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nnx.silu(self.refine(x))
        mean, peak = x.mean(axis=(1, 2)), x.max(axis=(1, 2))
        x = nnx.relu(self.left(mean)) * nnx.sigmoid(self.right(peak))
        return self.out(self.bottleneck(x))


class TiedLanguageModel(nnx.Module):
    """Tokens [N, T] of 11 words to logits of the next word, [N, T, 11].

    The output head is the embedding's own table, transposed. Every place sees
    itself and the mean of all places up to it.
    """

    def __init__(self, width: int = 8, hidden: int = 16, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(num_embeddings=11, features=width, rngs=rngs)
        self.context = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, width, rngs=rngs)
        self.norm = nnx.RMSNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embed(tokens)
        length = jnp.arange(1, tokens.shape[1] + 1)[:, None]
        x = x + self.context(jnp.cumsum(x, axis=1) / length)
        x = x + self.down(nnx.gelu(self.up(x)))
        return self.embed.attend(self.norm(x))
