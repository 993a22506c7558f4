"""Masked equals sliced: what the search judges is what the smaller network does."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import Compressed, compress, run_graph
from pfrl.graph import split_variables, trace
from pfrl.graph.masks import Masks, slice_variables
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from tests.support.conformance import assert_close, everything, examples
from tests.support.tiny import Branches, Shared, made, randomised, resnet8, shape

NETWORKS = {
    "resnet8": (resnet8, (8, 8, 1)),
    "branches": (Branches, (6, 6, 2)),
    "shared": (Shared, (6, 6, 2)),
}
BATCH = 6


@cache
def masked_network(name):
    """A network with random variables, its graph, and ``everything`` of it with a mask."""
    constructor, image = NETWORKS[name]
    graph = trace(made(constructor), shape(BATCH, *image))
    masks = Masks(graph)

    def apply(variables, x, train, mask):
        return run_graph(graph, masks.apply(variables, mask), x, train)

    return graph, masks, everything(apply, graph.source.trainable)


@pytest.mark.parametrize("name", NETWORKS)
@examples(2)
@given(seed=st.integers(0, 10**6))
def test_masked_equals_sliced(name, seed):
    graph, masks, run_masked = masked_network(name)
    rng = np.random.default_rng(seed)
    keep = {group: rng.uniform(0.25, 1) for group in graph.groups}
    # One group at least loses channels.
    keep[rng.choice(list(graph.groups))] = 0.5
    policy = replace(Policy.uniform(graph), keep=keep).checked(graph)
    counts = policy.counts(graph)

    variables = randomised(graph.source.variables, seed)
    x = rng.normal(size=(BATCH, *graph.input_shape)).astype(np.float32)
    labels = rng.integers(0, 3, BATCH)
    small = compress(graph.source, policy, graph=graph, variables=variables)
    assert {name: len(channels) for name, channels in small.kept.items()} == counts

    masked = run_masked(variables, x, labels, masks.vector(small.kept))
    assert np.abs(masked["evaluated"]).max() > 0.1
    # A few random channels may all be dead behind their ReLU; such a network tells nothing.
    assume(np.ptp(masked["evaluated"], axis=0).max() > 0.01)
    sliced = everything(small.apply, graph.source.trainable)(small.variables, x, labels)
    for mode in ("evaluated", "trained"):
        assert_close(masked[mode], sliced[mode], mode)
    for what in ("statistics", "gradients", "parameters"):
        full = variables | masked[what]
        kept = slice_variables(graph, full, small.kept)
        assert set(sliced[what]) == set(masked[what])
        largest = max((np.abs(value).max() for value in sliced[what].values()), default=0)
        for key, value in sliced[what].items():
            assert_close(kept[key], value, f"{what} of {key}", largest)
    assert_sizes(graph, counts, small)


def assert_sizes(graph, counts, small):
    """MACs and parameters counted in the sliced arrays are those that the graph predicts."""
    arrays = small.variables
    assert small.params == graph.params_at(counts)
    for name, counted in graph.axes.items():
        assert arrays[name].shape == tuple(count.at(counts) for count in counted)
    # A kernel [..., I, O] multiplies all its elements once for every position of its output.
    macs = sum(arrays[layer.kernel].size * layer.positions for layer in graph.layers)
    assert small.macs == graph.macs_at(counts) == macs
    assert macs < graph.macs


def test_channels_with_the_largest_kernels_stay():
    graph, _, _ = masked_network("shared")
    variables = randomised(graph.source.variables, 0)
    # What is put into a channel and what is taken from it, in all kernels of the group.
    first, shared = np.abs(variables["first.kernel"]), np.abs(variables["shared.kernel"])
    score = first.sum((0, 1, 2)) + shared.sum((0, 1, 2)) + shared.sum((0, 1, 3))
    score += np.abs(variables["out.kernel"]).sum(1)
    scores = l1_scores(graph, variables)
    assert np.allclose(scores["first"], score)
    assert np.array_equal(choose(scores, {"first": 2})["first"], np.sort(np.argsort(score)[-2:]))
    assert np.array_equal(choose({"g": np.array([1.0, 3, 3, 0])}, {"g": 1})["g"], [1])
    assert np.array_equal(choose({"g": np.array([1.0, 3, 3, 1])}, {"g": 3})["g"], [0, 1, 2])


def test_a_whole_policy_changes_nothing():
    graph, masks, run_masked = masked_network("branches")
    whole = {name: np.arange(group.size) for name, group in graph.groups.items()}
    variables = randomised(graph.source.variables, 1)
    x = np.random.default_rng(0).normal(size=(BATCH, 6, 6, 2)).astype(np.float32)
    masked = run_masked(variables, x, np.zeros(BATCH, int), masks.vector(whole))
    plain = jax.jit(graph.source.apply, static_argnums=2)
    assert_close(masked["evaluated"], plain(variables, x, False)[0], "evaluated")
    logits, statistics = plain(variables, x, True)
    assert_close(masked["trained"], logits, "trained")
    for name, value in split_variables(graph.source._replace(variables=statistics))[1].items():
        assert_close(masked["statistics"][name], value, name)
    small = compress(graph.source, Policy.uniform(graph), graph=graph, variables=variables)
    assert isinstance(small, Compressed)
    assert all(np.array_equal(small.variables[name], variables[name]) for name in variables)
