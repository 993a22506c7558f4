"""The collector of what layers read: several reducers, one run of the network on every batch."""

import jax
import numpy as np

from pfrl.evaluation.compilations import compilations
from pfrl.graph import trace
from pfrl.methods.inputs import Reducer, collect, listed
from tests.support.tiny import Dense, made, shape


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_reducers_share_the_runs_and_get_the_layers_and_arguments_that_they_ask_for():
    graph = trace(made(Dense), shape(2, 3))
    variables = {n: np.asarray(v) for n, v in graph.source.variables.items()}
    batches = [normal(6, 3), normal(6, 3, seed=1)]
    sums = Reducer(
        lambda read, factor: factor * read.value.sum(0),
        lambda x: {"b": np.float32(len(x))},
        lambda kept, found: found if kept is None else kept + found,
    )
    largest = Reducer(lambda read, _: read.value.max(), lambda x: dict.fromkeys("ab"), listed)
    before = compilations()
    summed, extremes = collect(graph, variables, iter(batches), [sums, largest])
    assert compilations() - before <= 1
    hidden = [np.maximum(x @ variables["a.kernel"] + variables["a.bias"], 0) for x in batches]
    assert list(summed) == ["b"]
    np.testing.assert_allclose(summed["b"], 6 * sum(h.sum(0) for h in hidden), atol=1e-4)
    for layer, read in (("a", batches), ("b", hidden)):
        np.testing.assert_allclose(extremes[layer], [each.max() for each in read], atol=1e-5)
    (alone,) = collect(graph, variables, batches, [sums])
    assert jax.tree.all(jax.tree.map(np.array_equal, alone, summed))


def test_without_batches_or_reducers_nothing_is_kept():
    graph = trace(made(Dense), shape(2, 3))
    reducer = Reducer(lambda read, _: read.value, lambda x: dict.fromkeys("ab"), listed)
    assert collect(graph, graph.source.variables, [], [reducer]) == [{}]
    assert collect(graph, graph.source.variables, [normal(2, 3)], []) == []
