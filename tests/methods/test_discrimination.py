"""Discrimination-aware selection: gradients by hand, and channels that alone know the label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.graph import trace
from pfrl.graph.kernels import Kernel
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.channels.discrimination import Discrimination, Part, gradient_norms, shares
from pfrl.methods.channels.lasso import lasso
from pfrl.methods.channels.readers import Reader, SelectionError
from pfrl.methods.channels.stages import StageError
from pfrl.methods.repair.reconstruct import Gram, gather
from tests.support.conformance import random_source
from tests.support.narrow import MODERN
from tests.support.tiny import resnet8, shape


def test_rounds_share_the_channels():
    assert shares(8, 4) == [2, 2, 2, 2]
    assert shares(10, 4) == [2, 3, 3, 2]
    assert shares(3, 4) == [1, 1, 1]
    assert shares(5, 1) == [5]


def reader(channels, moments, weights):
    weights = np.asarray(weights, float)[None]
    places = np.arange(weights.size).reshape(weights.shape)
    gram = Gram(Kernel(("b",), "b", places, (weights.shape[1],)), np.zeros((1, 1, 1)), 1)
    return Reader(gram, np.asarray(channels), places, weights, np.asarray(moments, float)[None])


def test_both_gradients_count_by_their_own_length():
    # |W| = 5. W' = 0: the reconstruction's gradient is -5 (3, 8), over its length (3, 8) / √73;
    # the stage's is 5 (0.3, -0.4), over its length (0.6, -0.8).
    one = reader([0, 1], np.diag([1.0, 2]), [[3.0], [4.0]])
    part = Part(2, [one], frozenset({"b"}), lambda *_: {})
    nothing, slope = np.zeros((1, 2, 1)), np.array([[[0.3], [-0.4]]])
    error = -np.array([3, 8]) / 73**0.5
    for weight in (0.0, 1.0, 2.0):
        expected = np.abs(error + weight * np.array([0.6, -0.8]))
        found = gradient_norms(part, [nothing], [slope], weight)
        np.testing.assert_allclose(found, expected)
    # Where a loss has no gradient the other one decides.
    np.testing.assert_allclose(gradient_norms(part, [nothing], [0 * slope], 1), np.abs(error))
    np.testing.assert_allclose(gradient_norms(part, [one.weights], [slope], 1), [0.6, 0.8])


def test_readers_count_by_their_kernels_over_their_lengths():
    # Kernels are 1 and 10 long, and so the gradients of what are the same losses 10 and 1.
    small = reader([0, 1], np.diag([10.0, 0]), [[1.0], [0]])
    large = reader([0, 1], np.diag([0, 0.1]), [[0.0], [10]])
    part = Part(2, [small, large], frozenset({"b"}), lambda *_: {})
    nothing = [np.zeros((1, 2, 1))] * 2
    found = gradient_norms(part, nothing, nothing, 1)
    np.testing.assert_allclose(found, np.full(2, 0.5**0.5))


NOISE, KNOWS = (0, 1, 2), 3
"""Channels with large norms that say nothing of the label, and the one that knows it."""


def evidence(low=0, high=2, count=600):
    """Noise ``[N, 3]`` between two bounds with the label beside it, in three batches."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    x = np.concatenate([rng.uniform(low, high, (count, 3)), labels[:, None]], axis=1)
    return [(x[i::3].astype(np.float32), labels[i::3].astype(np.int32)) for i in range(3)]


def discrimination(graph, variables, batches, counts, **options):
    """Of the counts, with all that it needs gathered."""
    batches = list(batches)
    grams = gather(graph, variables, [x for x, _ in batches]) if batches else ()
    return Discrimination(graph, variables, batches, grams, **options)(counts)


def two_layers(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"]


def test_the_channel_that_knows_the_label_stays_though_its_norm_is_smallest():
    # What the noise adds to both logits alike changes no probability.
    p = {"a": np.diag([3.0, 3, 3, 1]).astype(np.float32)}
    p["b"] = np.array([[5.0, 5], [5, 5], [5, 5], [-1, 1]], np.float32)
    batches, counts = evidence(), {"a": 1}
    graph = trace(two_layers, shape(200, 4), variables=p)
    assert l1_scores(graph, p)["a"].argmin() == KNOWS
    found = discrimination(graph, p, batches, counts, stages=1)
    np.testing.assert_array_equal(found["a"], [KNOWS])
    unaware = discrimination(graph, p, batches, counts, stages=1, weight=0)
    assert unaware["a"][0] in NOISE
    grams = gather(graph, p, [x for x, _ in batches])
    assert lasso(graph, p, grams, counts)["a"][0] in NOISE
    assert choose(l1_scores(graph, p), counts)["a"][0] in NOISE


def bottleneck(p, x):
    """Four layers, the first two without an activation function."""
    return jax.nn.relu(x @ p["a"] @ p["b"] @ p["c"]) @ p["d"]


def test_the_head_at_the_end_of_a_stage_decides_within_it():
    # The label passes b as -1, and c reads nothing of it: the network's own loss cannot tell.
    p = {"a": np.diag([3.0, 3, 3, 1]).astype(np.float32)}
    p["b"] = np.diag([2.0, 2, 2, -1]).astype(np.float32)
    p["c"] = np.array([[1.0, 2, 0, 1], [0, 1, 2, 1], [2, 0, 1, 1], [0, 0, 0, 0]], np.float32)
    p["d"] = np.array([[1.0, 0], [0, 1], [1, 1], [0, 2]], np.float32)
    graph = trace(bottleneck, shape(200, 4), variables=p)
    full = graph.full_counts()

    # MACs 16, 16, 16 and 8: the head looks at what c reads, and b, which reads a, is before it.
    def found(variables, **options):
        counts = {**full, "a": 1, "c": 2}
        return discrimination(graph, variables, evidence(-1, 1), counts, **options)

    kept = found(p, stages=2)
    np.testing.assert_array_equal(kept["a"], [KNOWS])
    assert found(p, stages=1)["a"][0] in NOISE
    assert kept["b"].tolist() == [0, 1, 2, 3] and len(kept["c"]) == 2


def squares(outputs, targets):
    return jnp.square(outputs - targets).mean()


def test_the_loss_is_that_of_the_task():
    # Regression of two numbers, of which the second is what the last input is.
    p = {"a": np.diag([3.0, 3, 3, 1]).astype(np.float32)}
    p["b"] = np.array([[2.0, 0], [2, 0], [2, 0], [0, 1]], np.float32)
    graph = trace(lambda p, x: x @ p["a"] @ p["b"], shape(200, 4), variables=p)
    targets = [(x, np.stack([0 * x[:, 0], 9 * x[:, 3]], 1)) for x, _ in evidence(-1, 1)]
    found = discrimination(graph, p, targets, {"a": 1}, stages=1, loss=squares, weight=3)
    np.testing.assert_array_equal(found["a"], [KNOWS])


@pytest.mark.parametrize("name", ["resnet8", pytest.param("vit_tiny", marks=pytest.mark.ci)])
def test_every_group_keeps_exactly_its_count(name):
    constructor, image = (resnet8, (8, 8, 1)) if name == "resnet8" else MODERN[name]
    source = random_source(constructor)
    graph, variables = trace(source, shape(8, *image)), source.variables
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, *image)).astype(np.float32)
    batches = [(each, np.arange(8) % 4) for each in x]
    counts = {name: max(group.size // 2, 1) for name, group in graph.groups.items()}
    kept = discrimination(graph, variables, iter(batches), counts, rounds=2)
    assert {name: len(indices) for name, indices in kept.items()} == counts
    for name, indices in kept.items():
        assert (np.diff(indices) > 0).all() and indices[0] >= 0
        assert indices[-1] < graph.groups[name].size
    if name == "resnet8":
        again = discrimination(graph, variables, batches, counts, rounds=2)
        assert all(np.array_equal(kept[n], again[n]) for n in kept)
        largest = choose(l1_scores(graph, variables), counts)
        assert any(not np.array_equal(kept[n], largest[n]) for n in kept)


def test_what_is_missing_is_said():
    p = {"a": np.eye(4, dtype=np.float32), "b": np.ones((4, 2), np.float32)}
    graph = trace(two_layers, shape(200, 4), variables=p)
    with pytest.raises(SelectionError, match=r"batches=\[.*\] and at least one round, got 0 and 4"):
        discrimination(graph, p, [], {"a": 1})
    with pytest.raises(SelectionError, match="at least one round, got 3 and 0"):
        discrimination(graph, p, evidence(), {"a": 1}, rounds=0)
    with pytest.raises(SelectionError, match="'a' is to keep 5 channels"):
        discrimination(graph, p, evidence(), {"a": 5})
    with pytest.raises(StageError, match="at least one stage, got 0"):
        discrimination(graph, p, evidence(), {"a": 1}, stages=0)
