"""Networks of somebody who has never read this library: found, sliced, and equal to masked."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.graph import trace
from tests.support.conformance import check, examples, masked_network, random_source
from tests.support.tiny import Through, shape
from tests.support.user_model import TiedLanguageModel, UserNet


def user_net(rngs):
    return UserNet(rngs=rngs)


def language_model(rngs):
    return TiedLanguageModel(rngs=rngs)


@examples(2)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced_in_a_users_network(seed):
    check(user_net, (8, 8, 3), seed)


@examples(2)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced_with_a_tied_embedding(seed):
    small, _ = check(language_model, (6,), seed, jnp.int32)
    # The table is one array, sliced once, and the head reads what the embedding made.
    kept = small.kept["context"]
    assert small.variables["embed.embedding"].shape == (11, len(kept))


def test_groups_of_the_users_network():
    graph, _, _ = masked_network(user_net, (8, 8, 3))
    kinds = {name: (group.size, group.kind) for name, group in graph.groups.items()}
    assert kinds == {
        "branches.point": (4, "channels"),
        # Four groups of two outputs: what goes from one goes from all.
        "branches.grouped.conv": (2, "channels"),
        "branches.pooled": (4, "channels"),
        "se.reduce": (4, "channels"),
        "left": (10, "channels"),
        "bottleneck": (6, "channels"),
    }
    # Three groups of four in the normalisation and four of three in the convolution: no channel
    # of twelve can go so that both stay groups of equal size.
    assert set(graph.frozen) == {"stem", "out"}
    assert graph.unknown == frozenset()


MIX = np.arange(36, dtype=np.float32).reshape(6, 6) / 36
RISING = np.arange(1, 7, dtype=np.float32)
ORDER = np.array([3, 1, 5, 0, 4, 2])
PAIRS = {"a": 3}
WHOLE = {"a": 6}
HALVES = {"a": 3, "a#2": 3}
BETWEEN = {
    "running_sum": (lambda x: jnp.cumsum(x, axis=-1), WHOLE),
    "norm": (lambda x: x / (1 + jnp.linalg.norm(x, axis=-1, keepdims=True)), WHOLE),
    "layer_norm": (lambda x: (x - x.mean(-1, keepdims=True)) * 2.0, WHOLE),
    "rms": (lambda x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6), WHOLE),
    "matrix": (lambda x: x @ MIX, WHOLE),
    "vector": (lambda x: x * RISING, WHOLE),
    "order": (lambda x: x[..., ORDER], WHOLE),
    "take": (lambda x: jnp.take(x, ORDER, axis=-1), WHOLE),
    "reverse": (lambda x: x[..., ::-1], WHOLE),
    # A slice of one channel would be left empty.
    "roll": (lambda x: jnp.roll(x, 1, axis=-1), {"a": 5}),
    "split": (lambda x: jnp.concatenate(jnp.split(x, 2, axis=-1)[::-1], axis=-1), HALVES),
    "stride": (lambda x: jnp.repeat(x[..., ::2], 2, axis=-1), HALVES),
    "shuffle": (lambda x: x.reshape(*x.shape[:3], 2, 3).swapaxes(3, 4).reshape(x.shape), WHOLE),
    "blocks": (
        lambda x: jax.nn.softmax(x.reshape(*x.shape[:3], 2, 3), axis=3).reshape(x.shape),
        PAIRS,
    ),
    "groups": (lambda x: _grouped_mean(x, 3), {"a": 3, "a#2": 2}),
    "transposed": (lambda x: jnp.transpose(jnp.transpose(x, (3, 0, 1, 2)), (1, 2, 3, 0)), WHOLE),
    "padded": (lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)))[..., 1:-1], WHOLE),
    "where": (lambda x: jnp.where(x > 0, x, 0.1 * x), WHOLE),
    "clip": (lambda x: jnp.clip(x, -1, 1) + jax.nn.hard_swish(x) + jax.nn.silu(x), WHOLE),
    "resize": (lambda x: jax.image.resize(x, (x.shape[0], 3, 3, 6), "bilinear"), WHOLE),
    "remat": (lambda x: jax.checkpoint(jnp.sin)(x), WHOLE),
    "jit": (jax.jit(lambda x: jnp.tanh(x) * 2), WHOLE),
    "custom_vjp": (lambda x: _straight_through(x), WHOLE),
    "dynamic_slice": (
        lambda x: jax.lax.dynamic_slice(x, (0, 1, 1, 0), (*x.shape[:1], 4, 4, 6)),
        WHOLE,
    ),
    "update": (lambda x: jax.lax.dynamic_update_slice(x, x[:, :2] * 2, (0, 1, 0, 0)), WHOLE),
    "instance_norm": (
        lambda x: (x - x.mean((1, 2), keepdims=True)) / (1 + x.std((1, 2), keepdims=True)),
        WHOLE,
    ),
    "space_to_depth": (lambda x: _space_to_depth(x), {"a": 6}),
    "gram": (lambda x: jnp.einsum("nhwc,nhvc,nhvd->nhwd", x, x, x), WHOLE),
    "softmax": (lambda x: jax.nn.softmax(x, axis=-1), {}),
    "max": (lambda x: x - x.max(axis=-1, keepdims=True), {}),
    "sort": (lambda x: jnp.sort(x, axis=-1), {}),
    "scan": (lambda x: jax.lax.scan(lambda c, row: (c + row, c), x[0], x)[1], {}),
    "cond": (lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), {}),
    "while": (lambda x: jax.lax.fori_loop(0, 3, lambda i, v: v * 1.1, x), {}),
}


@jax.custom_vjp
def _straight_through(x):
    return jnp.round(x * 4) / 4


_straight_through.defvjp(lambda x: (_straight_through(x), None), lambda _, g: (g,))


def _space_to_depth(x):
    """Pixels of a 2x2 block become channels, and go back to their places."""
    n, h, w, c = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    y = jnp.tanh(y.reshape(n, h // 2, w // 2, 4 * c)).reshape(n, h // 2, w // 2, 2, 2, c)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)


def _grouped_mean(x, groups):
    """As GroupNorm: every group is divided by its own root mean square."""
    y = x.reshape(*x.shape[:3], groups, -1)
    power = (y * y).mean(axis=(1, 2, 4), keepdims=True)
    return (y * jax.lax.rsqrt(power + 1e-5)).reshape(x.shape)


@pytest.mark.parametrize("name", BETWEEN)
def test_what_lies_between_two_convolutions(name):
    between, expected = BETWEEN[name]

    def network(rngs):
        return Through(between, rngs)

    graph = trace(random_source(network), shape(4, 6, 6, 2))
    found = {group: each.size for group, each in graph.groups.items()}
    assert found.pop("b") == 5
    assert found == expected
    check(network, (6, 6, 2), seed=3)


class Heads(nnx.Module):
    """Attention with two heads of three; [N, 5, 4] to 3 logits."""

    def __init__(self, fused, rngs):
        self.fused = fused
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        if fused:
            self.qkv = nnx.Linear(4, 18, rngs=rngs)
            self.proj = nnx.Linear(6, 4, rngs=rngs)
        else:
            self.attention = nnx.MultiHeadAttention(
                2, 4, qkv_features=6, decode=False, dropout_rate=0.3, rngs=rngs
            )
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.embed = nnx.Linear(4, 4, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        y = self.norm(x)
        if self.fused:
            n, t, _ = y.shape
            q, k, v = self.qkv(y).reshape(n, t, 3, 2, 3).transpose(2, 0, 3, 1, 4)
            weights = jax.nn.softmax(jnp.einsum("nhqd,nhkd->nhqk", q, k), axis=-1)
            y = jnp.einsum("nhqk,nhkd->nqhd", weights, v).reshape(n, t, 6)
            y = self.proj(y)
        else:
            y = self.attention(y)
        return self.out((x + self.drop(y)).mean(axis=1))


def fused_heads(rngs):
    return Heads(True, rngs)


def plain_heads(rngs):
    return Heads(False, rngs)


# What is inside a head: of queries and keys and of values, or of all where one kernel makes them.
@pytest.mark.parametrize(("network", "inside"), [(plain_heads, 2), (fused_heads, 1)])
def test_heads_and_what_is_inside_a_head_are_groups_of_their_own(network, inside):
    graph, _, _ = masked_network(network, (5, 4))
    expected = [(2, "heads"), *[(3, "channels")] * inside, (4, "channels")]
    # The last is the residual stream, through LayerNorm.
    assert sorted((group.size, group.kind) for group in graph.groups.values()) == expected
    assert graph.unknown == frozenset()
    # Per example: three projections and one back, 5 tokens x 4 x 6 each; 2 heads x 5 x 5 x 3 twice;
    # the embedding 5 x 4 x 4 and the logits 4 x 3.
    assert graph.macs == 4 * 5 * 4 * 6 + 2 * 2 * 5 * 5 * 3 + 5 * 4 * 4 + 4 * 3
    check(network, (5, 4), seed=1)


def test_a_kept_head_is_a_head():
    graph, _, _ = masked_network(fused_heads, (5, 4))
    heads = next(name for name, group in graph.groups.items() if group.kind == "heads")
    whole = Policy.uniform(graph)
    policy = replace(whole, keep={**whole.keep, heads: 0.5})
    small = compress(graph.source, policy, graph=graph)
    assert small.variables["qkv.kernel"].shape == (4, 9)
    assert small.variables["proj.kernel"].shape == (3, 4)
    head = int(small.kept[heads][0])
    columns = [9 * 0 + 6 * part + 3 * head + d for part in range(3) for d in range(3)]
    assert np.array_equal(
        small.variables["qkv.kernel"], np.asarray(graph.source.variables["qkv.kernel"])[:, columns]
    )


def test_channels_are_rounded_and_heads_are_not():
    graph, _, _ = masked_network(plain_heads, (5, 4))
    counts = Policy.uniform(graph, 0.5, round_to=2).counts(graph)
    found = {(graph.groups[name].kind, graph.groups[name].size): n for name, n in counts.items()}
    # Of 2 heads one; of 3 places inside a head 1.5, so 2; of 4 channels 2.
    assert found == {("heads", 2): 1, ("channels", 3): 2, ("channels", 4): 2}


class Convolutions(nnx.Module):
    """One convolution of a kind between two plain ones; [N, 8, 8, 2] to 3 logits."""

    def __init__(self, middle, features, rngs):
        self.first = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.middle = middle(rngs)
        self.last = nnx.Conv(features, 4, (3, 3), rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.first(x)))
        x = jax.nn.relu(self.last(self.middle(x)))
        return self.out(x.mean(axis=(1, 2)))


def _conv(c_out, **options):
    return lambda rngs: nnx.Conv(6, c_out, (3, 3), rngs=rngs, **options)


# By group: size and kind, in order.
KINDS = {
    "strided": (_conv(5, strides=2), 5, [(6, "c"), (5, "c"), (4, "c")]),
    "dilated": (_conv(5, kernel_dilation=2), 5, [(6, "c"), (5, "c"), (4, "c")]),
    "depthwise": (_conv(6, feature_group_count=6), 6, [(6, "c"), (4, "c")]),
    # Two outputs an input: an input's channel takes both along, and either of the two can go.
    "multiplied": (_conv(12, feature_group_count=6), 12, [(6, "c"), (2, "c"), (4, "c")]),
    # Three groups of two that make four each.
    "grouped": (
        _conv(12, feature_group_count=3),
        12,
        [(3, "h"), (2, "c"), (4, "c"), (4, "c")],
    ),
    "transposed": (
        lambda rngs: nnx.ConvTranspose(6, 5, (2, 2), strides=(2, 2), rngs=rngs),
        5,
        [(6, "c"), (5, "c"), (4, "c")],
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_convolution(name):
    middle, features, expected = KINDS[name]

    def network(rngs):
        return Convolutions(middle, features, rngs)

    graph = trace(random_source(network), shape(6, 8, 8, 2))
    assert sorted((g.size, g.kind[0]) for g in graph.groups.values()) == sorted(expected)
    check(network, (8, 8, 2), seed=4)
