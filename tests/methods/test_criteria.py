"""Channel criteria against values worked out by hand, and on networks with streams and heads."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.graph import trace
from pfrl.methods.channels import criteria
from pfrl.methods.channels.base import channel_scores, choose
from pfrl.methods.channels.criteria import l1_scores
from tests.support.conformance import random_source
from tests.support.narrow import MODERN
from tests.support.tiny import Branches, Shared, TwoConvs, resnet8, shape

# [N, 2] to 2 outputs over 3 hidden channels; the columns of a are (0, 0), (3, 4), (0, 8).
PLAIN = {
    "a": np.array([[0.0, 3, 0], [0, 4, 8]], np.float32),
    "b": np.array([[1.0, -2], [1, 0], [-1, 0.5]], np.float32),
}


def plain(parameters, x):
    return jax.nn.relu(x @ parameters["a"]) @ parameters["b"]


def plain_graph():
    return trace(plain, shape(2, 2), variables=PLAIN)


def attention(p, x):
    """Self-attention of one token, which attends to itself alone; [N, 1, 2] to 2 outputs."""
    query, key, value = (jnp.einsum("nti,ihd->nthd", x, p[name]) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", query, key), axis=-1)
    read = jnp.einsum("nhts,nshd->nthd", weights, value)
    return jnp.einsum("nthd,hdo->nto", read, p["out"])[:, 0]


def flattened(p, x):
    """[N, 2, 1, 1] to 2 outputs: two pixels of two channels, flattened."""
    x = jnp.einsum("nhwi,io->nhwo", x, p["a"])
    return x.reshape(x.shape[0], -1) @ p["b"]


FLATTENED = {
    "a": np.array([[1.0, -2]], np.float32),
    # Rows: pixel 0 of channel 0 and of channel 1, pixel 1 of channel 0 and of channel 1.
    "b": np.array([[1.0, 0], [0, 2], [0, 3], [4, 0]], np.float32),
}


SCORING = ("l1", "l2", "bn_scale", "fpgm", "taylor", "activation", "random")


def scores_of(graph, variables, criterion, batches=(), normalise=False, **options):
    """By group, from statistics of the network."""
    recipe = Recipe(criterion=criterion, normalise=normalise)
    seen = gather_statistics(graph, recipe, batches, variables=variables, **options)
    return channel_scores(getattr(criteria, criterion), seen)


def score(criterion, **options):
    graph = plain_graph()
    assert list(graph.groups) == ["a"]
    return scores_of(graph, graph.source.variables, criterion, **options)["a"]


def test_l1_and_l2_add_what_is_put_in_and_what_is_taken_out():
    # Columns of a: 0, 3 + 4, 8; rows of b: 1 + 2, 1, 1 + 0.5.
    np.testing.assert_allclose(score("l1"), [3, 8, 9.5])
    # Columns of a: 0, 5, 8; rows of b: √5, 1, √1.25.
    np.testing.assert_allclose(score("l2"), [5**0.5, 6, 8 + 1.25**0.5])


def test_fpgm_on_three_vectors():
    # |(3, 4)| = 5, |(0, 8)| = 8, |(3, -4)| = 5: the second is nearest to the others and goes first.
    np.testing.assert_allclose(score("fpgm"), [5 + 8, 5 + 5, 8 + 5])


def test_fpgm_looks_at_what_produces_a_channel_only():
    source = random_source(Shared)
    graph = trace(source, shape(2, 6, 6, 2))
    variables = source.variables
    expected = np.zeros(6)
    for name in ("first.kernel", "shared.kernel"):
        kernel = np.asarray(variables[name], float).reshape(-1, 6).T
        expected += np.linalg.norm(kernel[:, None] - kernel, axis=-1).sum(1)
    scores = scores_of(graph, variables, "fpgm")
    np.testing.assert_allclose(scores["first"], expected, rtol=1e-6)


def test_taylor_of_a_gradient_known_by_hand():
    # x = (1, 1): h = (0, 7, 8). The loss is the sum of the outputs, whose gradient by h is
    # the row sums of b, (-1, 1, -0.5). So Σ g·w is (0, 7, -4) in a and the same in b.
    # Twice the input gives four times the squares, and the mean of 1 and 4 is 2.5.
    x = np.ones((1, 2), np.float32)
    batches = [(x, None), (2 * x, None)]
    found = score("taylor", batches=iter(batches), loss=lambda outputs, _: outputs.sum())
    np.testing.assert_allclose(found, 2.5 * 2 * np.array([0, 49, 16]))
    # Of the cross-entropy: outputs of h are (-1, 4); for label 1 the gradient is p (1, -1) with
    # p = 1 / (1 + e^5), by h it is p (3, 1, -1.5), and times h it is p (0, 7, -12).
    found = score("taylor", batches=[(x, np.array([1]))])
    np.testing.assert_allclose(found, 2 * (np.array([0, 7, -12]) / (1 + np.exp(5))) ** 2, rtol=1e-4)


def test_activation_is_what_the_reading_layer_gets():
    # x = (1, 1) gives h = (0, 7, 8), and (1, -1) gives (0, 0, 0) after the ReLU.
    batches = [(np.array([[1, 1], [1, -1]], np.float32), None)]
    np.testing.assert_allclose(score("activation", batches=batches), [0, 3.5, 4])
    # The mean of two batches, of which the second has (0, 14, 16) alone.
    batches.append((np.array([[2, 2]], np.float32), None))
    np.testing.assert_allclose(score("activation", batches=batches), [0, 8.75, 10])


def test_bn_scale_and_its_fallback():
    source = random_source(TwoConvs)
    graph = trace(source, shape(2, 8, 8, 1))
    scores = scores_of(graph, source.variables, "bn_scale")
    assert set(scores) == {"conv1", "conv2"}
    np.testing.assert_allclose(scores["conv1"], np.abs(source.variables["bn1.scale"]))
    np.testing.assert_allclose(scores["conv2"], np.abs(source.variables["bn2.scale"]))
    np.testing.assert_array_equal(score("bn_scale"), score("l1"))


def test_bn_scale_of_flax_and_not_the_biases():
    source = random_source(Branches)
    graph = trace(source, shape(2, 6, 6, 2))
    scores = scores_of(graph, source.variables, "bn_scale")
    np.testing.assert_allclose(scores["mix"], np.abs(source.variables["bn.scale"]))
    np.testing.assert_array_equal(scores["left"], l1_scores(graph, source.variables)["left"])


def test_channels_with_several_places():
    graph = trace(flattened, shape(2, 2, 1, 1), variables=FLATTENED)
    (name,) = graph.groups
    x = np.array([1, 3], np.float32).reshape(1, 2, 1, 1)
    batches = [(x, None)]

    def found(criterion, **options):
        return scores_of(graph, FLATTENED, criterion, **options)[name]

    np.testing.assert_allclose(found("l1"), [1 + 1 + 3, 2 + 2 + 4])
    np.testing.assert_allclose(found("l2"), [1 + 10**0.5, 2 + 20**0.5])
    np.testing.assert_allclose(found("fpgm"), [3, 3])
    # Two pixels, 1 and 3, times 1 and times -2.
    np.testing.assert_allclose(found("activation", batches=batches), [4, 8])
    # Loss: the sum of the outputs, 1·1 + 3·3 from channel 0 and -2·2 - 6·4 from channel 1, in
    # which both kernels are factors.
    taylor = found("taylor", batches=batches, loss=lambda outputs, _: outputs.sum())
    np.testing.assert_allclose(taylor, [2 * 10**2, 2 * 28**2])


def test_heads():
    rng = np.random.default_rng(0)
    p = {name: rng.normal(size=(2, 3, 4)).astype(np.float32) for name in ("q", "k", "v")}
    p["out"] = rng.normal(size=(3, 4, 2)).astype(np.float32)
    graph = trace(attention, shape(5, 1, 2), variables=p)
    heads = [group for group in graph.groups.values() if group.kind == "heads"]
    assert [group.size for group in heads] == [3]
    x = rng.normal(size=(5, 1, 2)).astype(np.float32)
    batches = [(x, None)]

    l1 = scores_of(graph, p, "l1")
    expected = sum(np.abs(p[name]).sum((0, 2)) for name in ("q", "k", "v"))
    expected += np.abs(p["out"]).sum((1, 2))
    np.testing.assert_allclose(l1[heads[0].name], expected, rtol=1e-6)
    # With one token, what the last layer reads are the values.
    values = np.abs(np.einsum("ni,ihd->nhd", x[:, 0], p["v"])).mean(0)
    found = scores_of(graph, p, "activation", batches=batches)
    np.testing.assert_allclose(found[heads[0].name], values.sum(1), rtol=1e-5)
    (within,) = (n for n, g in graph.groups.items() if g.kind != "heads" and "v" in g.producers)
    np.testing.assert_allclose(found[within], values.sum(0), rtol=1e-5)
    # Queries meet keys in a product that is no layer.
    (matched,) = (n for n, g in graph.groups.items() if g.kind != "heads" and n != within)
    np.testing.assert_array_equal(found[matched], l1[matched])


def test_normalisation_makes_arrays_count_alike():
    # Columns of a over their mean 5, and rows of b over theirs, 5.5 / 3.
    a, b = np.array([0, 7, 8]) / 5, np.array([3, 1, 1.5]) / (5.5 / 3)
    np.testing.assert_allclose(score("l1", normalise=True), a + b)
    # An array that is zero everywhere adds nothing.
    graph = plain_graph()
    empty = {**PLAIN, "a": np.zeros((2, 3), np.float32)}
    found = scores_of(graph, empty, "l1", normalise=True)["a"]
    np.testing.assert_allclose(found, b)


def test_random_scores_follow_the_seed():
    first, again, other = (score("random", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert ((first >= 0) & (first < 1)).all()


def test_what_is_missing_is_said():
    with pytest.raises(RecipeError, match="unknown criterion 'l3'; expected one of activation, bn"):
        scores_of(plain_graph(), PLAIN, "l3")
    for name in ("taylor", "activation"):
        with pytest.raises(RecipeError, match=f"criterion '{name}' looks at data and got none"):
            score(name)


@cache
def network(name):
    constructor, image = (resnet8, (8, 8, 1)) if name == "resnet8" else MODERN[name]
    source = random_source(constructor)
    return trace(source, shape(4, *image)), source.variables


@pytest.mark.parametrize("criterion", SCORING)
@pytest.mark.parametrize("name", ["resnet8", "vit_tiny"])
def test_every_criterion_scores_every_channel(name, criterion):
    graph, variables = network(name)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *graph.input_shape)).astype(np.float32)
    batches = [(x, np.arange(4))]
    scores = scores_of(graph, variables, criterion, batches=batches)
    assert {n: len(s) for n, s in scores.items()} == graph.full_counts()
    for group, each in scores.items():
        assert np.isfinite(each).all() and (each >= 0).all(), group
        assert np.ptp(each) > 0, group
    kept = choose(scores, dict.fromkeys(scores, 1))
    assert all(scores[n][k] == scores[n].max() for n, k in kept.items())


def test_l1_of_a_residual_stream_is_that_of_all_its_kernels():
    graph, variables = network("resnet8")
    kernels = {layer.kernel for layer in graph.layers}
    for name, scores in l1_scores(graph, variables).items():
        expected = np.zeros(graph.groups[name].size)
        for parameter, axis, indices in graph.groups[name].members:
            if parameter in kernels:
                kernel = np.abs(np.moveaxis(variables[parameter], axis, -1))
                expected += kernel.sum(axis=(*range(kernel.ndim - 1),))[indices].sum(axis=1)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
    # The stem and the first block write to the stream; that block and the next stage read it.
    stream = {m.parameter for m in graph.groups["conv1"].members} & kernels
    assert len(stream) >= 4
