"""Stages by their MACs, and what the heads at their ends make of features."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.graph import trace
from pfrl.methods.channels.stages import Head, StageError, fit_heads, stage_ends, watch
from tests.support.tiny import made, resnet8, shape


def chain(p, x):
    for name in sorted(p):
        x = jax.nn.relu(x @ p[name])
    return x


def chained(*widths, examples=5):
    rng = np.random.default_rng(0)
    pairs = enumerate(pairwise(widths))
    p = {f"w{i}": rng.normal(size=pair).astype(np.float32) for i, pair in pairs}
    return trace(chain, shape(examples, widths[0]), variables=p)


def test_stages_share_the_macs_evenly():
    # MACs 8, 16, 32, 16 and 8 of 80; before the layers are 0, 8, 24, 56 and 72.
    graph = chained(2, 4, 4, 8, 2, 4)
    x = np.zeros((5, 2), np.float32)
    assert stage_ends(graph, x, 1) == []
    # A half is 40, as far from 24 as from 56: the first.
    assert stage_ends(graph, x, 2) == ["w2"]
    # Thirds are 26.7 and 53.3.
    assert stage_ends(graph, x, 3) == ["w2", "w3"]
    # Sevenths from 11.4 to 68.6, at steps of 11.4: 8, 24, 24 (34.3), 56 (45.7), 56, 72.
    assert stage_ends(graph, x, 7) == ["w1", "w2", "w3", "w4"]
    with pytest.raises(StageError, match="at least one stage, got 0"):
        stage_ends(graph, x, 0)


def test_a_network_of_one_layer_has_one_stage():
    assert stage_ends(chained(3, 4), np.zeros((5, 3), np.float32), 3) == []


def transposed(p, x):
    """Three layers over features; before the last one the tokens come first."""
    x = jax.nn.relu(x @ p["a"]) @ p["b"]
    return (x.transpose(1, 0, 2) @ p["c"]).transpose(1, 0, 2)


def test_an_input_that_does_not_start_with_the_examples_is_no_end():
    rng = np.random.default_rng(0)
    p = {n: rng.normal(size=(4, 4)).astype(np.float32) for n in ("a", "b", "c")}
    x = np.zeros((7, 4, 4), np.float32)
    graph = trace(transposed, x, variables=p)
    assert [layer.name for layer in graph.layers] == ["a", "b", "c"]
    # Two thirds of the MACs are before c.
    assert stage_ends(graph, x, 3) == ["b"]


def test_features_are_those_that_a_convolution_reads():
    graph = trace(made(resnet8), shape(3, 8, 8, 1))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    first, last = graph.layers[0].name, graph.layers[-1].name
    read = jax.jit(lambda x: watch(graph, graph.source.variables, x, (first, last)))
    outputs, seen = read(x)
    assert outputs.shape == (3, 4)
    np.testing.assert_array_equal(seen[first], x.reshape(3, 64, 1))
    assert seen[last].shape == (3, 1, 16)
    variables = graph.source.variables
    expected = seen[last][:, 0] @ variables["linear.kernel"] + variables["linear.bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_head_by_hand():
    # Two positions of two features: normalised (-1, 2), (3, -2) and (1, 0), (0, 0); means of the
    # positive parts 1.5, 1 and 0.5, 0; then times (2, -1), and 1.
    features = np.array([[[0, 6], [4, -2]], [[2, 2], [1, 2]]], np.float32)
    head = Head("a", *map(jnp.asarray, ([1.0, 2], [1, 0.5], [[2.0], [-1]], [1.0])))
    np.testing.assert_allclose(head(jnp.asarray(features)), [[3 - 1 + 1], [1 + 1]])


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def pixels(p, x):
    """[N, 4, 4, 2] to 3 logits that know nothing of the input."""
    x = jnp.einsum("nhwi,io->nhwo", x, p["a"])
    x = jnp.einsum("nhwi,io->nhwo", x, p["b"])
    return 0 * x.mean((1, 2)) @ p["c"]


def test_a_head_tells_what_its_features_tell():
    rng = np.random.default_rng(0)
    p = {"a": np.eye(2, 3, dtype=np.float32), "b": rng.normal(size=(3, 4)).astype(np.float32)}
    p["c"] = rng.normal(size=(4, 3)).astype(np.float32)
    labels = np.arange(60) % 3
    # The class is how bright the first channel is; the third is always zero.
    x = rng.normal(size=(60, 4, 4, 2)).astype(np.float32)
    x[..., 0] += 3 * labels[:, None, None]
    graph = trace(pixels, shape(20, 4, 4, 2), variables=p)
    batches = [(x[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40)]
    (head,) = fit_heads(graph, p, batches, ["b"], cross_entropy, steps=400)
    assert head.layer == "b"
    np.testing.assert_allclose(head.mean, [*x.mean((0, 1, 2)), 0], atol=1e-5)
    expected = 1 / np.sqrt(np.append(x.var((0, 1, 2)), 0) + 1e-5)
    np.testing.assert_allclose(head.scale, expected, rtol=1e-4)
    _, seen = jax.jit(lambda x: watch(graph, p, x, ["b"]))(x)
    assert (np.asarray(head(seen["b"])).argmax(1) == labels).mean() > 0.95


def test_a_network_of_several_outputs_has_no_heads():
    p = {"a": np.ones((3, 4), np.float32), "b": np.ones((4, 2), np.float32)}

    def both(p, x):
        x = x @ p["a"]
        return x @ p["b"], x.sum(1)

    graph = trace(both, shape(5, 3), variables=p)
    batches = [(np.ones((5, 3), np.float32), np.zeros(5, int))]
    with pytest.raises(StageError, match=r"has 2 outputs.*stages=1"):
        fit_heads(graph, p, batches, ["b"], cross_entropy)
    assert fit_heads(graph, p, batches, [], cross_entropy) == []
