"""Readers of channel groups: rows by channel against the graph, and what selections share."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.graph import trace
from pfrl.graph.kernels import find_kernels
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.channels.lasso import lasso
from pfrl.methods.channels.proximal import proximal
from pfrl.methods.channels.readers import SelectionError, check_counts, find_readers, row_channels
from pfrl.methods.inputs import read_inputs
from pfrl.methods.repair.reconstruct import gather, repair
from tests.support.conformance import random_source
from tests.support.narrow import CLASSIC, MODERN
from tests.support.tiny import Branches, TwoConvs, resnet8, shape

NETWORKS = {
    "resnet8": (resnet8, (8, 8, 1)),
    "branches": (Branches, (6, 6, 2)),
    **{name: CLASSIC[name] for name in ("lenet5", "mobilenet_v2")},
    **{name: MODERN[name] for name in ("vit_tiny", "densenet40")},
}


@cache
def network(name):
    constructor, image = NETWORKS[name]
    source = random_source(constructor)
    return trace(source, shape(4, *image)), source.variables


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rows_of_a_channel_are_those_that_go_with_it(name):
    graph, variables = network(name)
    rng = np.random.default_rng(0)
    kernels = find_kernels(graph, graph.evaluation())
    whole = {group: np.arange(g.size) for group, g in graph.groups.items()}
    met = 0
    for group in graph.groups.values():
        channel = int(rng.integers(group.size))
        kept = {**whole, group.name: np.delete(whole[group.name], channel)}
        removed = graph.removed_atoms(graph.evaluation(), kept)
        for kernel in kernels:
            rows = row_channels(group, kernel, np.shape(variables[kernel.variable]))
            np.testing.assert_array_equal(rows == channel, kernel.gone(removed))
            met += int((rows == channel).any())
    assert met >= len(kernels)


def heads(p, x):
    """Tokens ``[N, T, 3]`` attending to each other with three heads of four features."""
    query, key, value = (jnp.einsum("nti,ihd->nthd", x, p[name]) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", query, key), axis=-1)
    read = jnp.einsum("nhts,nshd->nthd", weights, value)
    return jnp.einsum("nthd,hdo->nto", read, p["out"])


def test_heads_have_a_reader_and_what_products_alone_read_keeps_the_highest_l1_scores():
    rng = np.random.default_rng(0)
    p = {name: rng.normal(size=(3, 3, 4)).astype(np.float32) for name in ("q", "k", "v")}
    p["out"] = rng.normal(size=(3, 4, 2)).astype(np.float32)
    graph = trace(heads, shape(5, 6, 3), variables=p)
    grams = gather(graph, p, [rng.normal(size=(5, 6, 3)).astype(np.float32)])
    found = {name: find_readers(group, p, grams) for name, group in graph.groups.items()}
    (matched,) = (name for name in found if not found[name])
    assert all(m.parameter in ("q", "k") for m in graph.groups[matched].members)
    for name, readers in found.items():
        if readers:
            (reader,) = readers
            # Element 8 h + 2 d of the last kernel is of head h and feature d.
            first = reader.places[0, :, 0]
            of_heads = graph.groups[name].kind == "heads"
            expected = first // 8 if of_heads else first // 2 % 4
            np.testing.assert_array_equal(reader.channels, expected)
    counts = dict.fromkeys(graph.groups, 2)
    best = choose(l1_scores(graph, p), counts)[matched]
    for method in (lasso, proximal):
        np.testing.assert_array_equal(method(graph, p, grams, counts)[matched], best)


def test_readers_whose_outputs_are_always_zero_say_nothing():
    p = {"a": np.eye(3, dtype=np.float32), "b": np.zeros((3, 2), np.float32)}
    graph = trace(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], shape(5, 3), variables=p)
    grams = gather(graph, p, [np.ones((5, 3), np.float32)])
    assert len(grams) == 1
    assert find_readers(graph.groups["a"], p, grams) == []
    kept = lasso(graph, p, grams, {"a": 2})
    np.testing.assert_array_equal(kept["a"], choose(l1_scores(graph, p), {"a": 2})["a"])


def test_the_moments_give_the_relative_error_of_a_readers_outputs():
    graph, variables = network("resnet8")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 8, 8, 1)).astype(np.float32)
    grams = gather(graph, variables, [x], positions=10**6)
    name = next(n for n in graph.groups if n.endswith(".0.conv1"))
    (reader,) = find_readers(graph.groups[name], variables, grams)
    hidden, kernel = inputs_of(graph, variables, x, reader.gram.kernel.layers[0])
    lost = kernel.at[:, :, 1:3].multiply(0.5)
    options = {"window_strides": (1, 1), "padding": "SAME"}
    options["dimension_numbers"] = ("NHWC", "HWIO", "NHWC")
    before, after = (jax.lax.conv_general_dilated(hidden, k, **options) for k in (kernel, lost))
    change = lost.reshape(-1)[reader.places] - reader.weights
    expected = jnp.square(after - before).sum() / jnp.square(before).sum()
    error = np.sum(change * (reader.moments @ change))
    np.testing.assert_allclose(error, expected, rtol=1e-4)
    assert error > 1e-3


def inputs_of(graph, variables, x, layer):
    """What a layer reads, and its kernel."""

    def look(read):
        return read.value if read.layer == layer else None

    (name,) = (each.kernel for each in graph.layers if each.name == layer)
    found = jax.jit(lambda variables: read_inputs(graph, variables, x, look)[1])(variables)
    return found[layer], jnp.asarray(variables[name])


@pytest.mark.parametrize("method", [lasso, proximal])
def test_every_group_keeps_exactly_its_count(method):
    graph, variables = network("resnet8")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
    grams = gather(graph, variables, [x])
    largest = max(group.size for group in graph.groups.values())
    for count in range(1, largest + 1):
        counts = {name: min(count, group.size) for name, group in graph.groups.items()}
        kept = method(graph, variables, grams, counts)
        assert {name: len(indices) for name, indices in kept.items()} == counts
        for name, indices in kept.items():
            assert (np.diff(indices) > 0).all()
            assert indices[0] >= 0 and indices[-1] < graph.groups[name].size


def error(graph, variables, grams, kept):
    """Relative error of the outputs of all repaired kernels, summed."""
    repaired, total = repair(graph, grams, variables, kept), 0.0
    for kernel, matrix, _ in grams:
        old, new = (
            np.asarray(v[kernel.variable], float).reshape(-1)[kernel.places]
            for v in (variables, repaired)
        )
        total += np.sum((new - old) * (matrix @ (new - old))) / np.sum(old * (matrix @ old))
    return total


@pytest.mark.parametrize("method", [lasso, proximal])
def test_what_is_chosen_is_repaired_better_than_a_random_choice(method):
    for seed in range(4):
        source = random_source(TwoConvs, seed)
        graph, variables = trace(source, shape(16, 8, 8, 1)), source.variables
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(16, 8, 8, 1)).astype(np.float32)
        grams = gather(graph, variables, [x])

        counts = {name: group.size // 2 for name, group in graph.groups.items()}
        draws = [
            choose({n: rng.random(g.size) for n, g in graph.groups.items()}, counts)
            for _ in range(10)
        ]
        randomly = [error(graph, variables, grams, kept) for kept in draws]
        ours = error(graph, variables, grams, method(graph, variables, grams, counts))
        assert ours <= np.median(randomly)
        assert ours < 0.9 * np.mean(randomly)


def test_counts_that_cannot_be_kept_are_refused():
    graph, variables = network("resnet8")
    full = graph.full_counts()
    check_counts(graph, full)
    for count, said in ((0, "0"), (17, "17"), (None, "None")):
        name = max(full, key=lambda n: full[n])
        counts = {n: c for n, c in full.items() if n != name}
        if count is not None:
            counts[name] = count
        with pytest.raises(SelectionError, match=f"'{name}' is to keep {said} .* 1 to 16"):
            lasso(graph, variables, (), counts)
