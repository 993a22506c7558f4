"""Asymmetric repair: against ``numpy.linalg.lstsq`` layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.graph import trace
from pfrl.graph.masks import Masks
from pfrl.methods.repair.asymmetric import AsymmetricRepair
from pfrl.methods.repair.reconstruct import ReconstructError, gather, repair
from tests.support.tiny import TwoConvs, made, shape

NO_RIDGE = 1e-7


class Three(nnx.Module):
    """[N, 5] to 2 outputs over two hidden layers of 6."""

    def __init__(self, rngs):
        self.a = nnx.Linear(5, 6, rngs=rngs)
        self.b = nnx.Linear(6, 6, rngs=rngs)
        self.c = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.c(jax.nn.relu(self.b(jax.nn.relu(self.a(x)))))


def test_each_layer_is_fitted_to_what_the_repaired_ones_before_give_it():
    graph = trace(made(Three), shape(1, 5))
    w = {name: np.asarray(value, float) for name, value in graph.source.variables.items()}
    batches = [np.random.default_rng(i).normal(size=(40, 5)).astype(np.float32) for i in (0, 1)]
    kept = {"a": np.array([0, 2, 3, 5]), "b": np.array([1, 2, 4])}
    found = AsymmetricRepair(graph, graph.source.variables, batches, ridge=NO_RIDGE)(kept)

    x = np.concatenate(batches).astype(float)
    first = np.maximum(x @ w["a.kernel"] + w["a.bias"], 0)
    second = np.maximum(first @ w["b.kernel"] + w["b.bias"], 0)
    # The first layer reads the image: nothing is lost, nothing is changed.
    np.testing.assert_array_equal(found["a.kernel"], graph.source.variables["a.kernel"])
    b = np.linalg.lstsq(first[:, kept["a"]], first @ w["b.kernel"], rcond=None)[0]
    np.testing.assert_allclose(found["b.kernel"][kept["a"]], b, atol=1e-3)
    # What the second layer now gives, and the third is fitted to: with errors in all outputs.
    given = np.maximum(first[:, kept["a"]] @ b + w["b.bias"], 0)[:, kept["b"]]
    c = np.linalg.lstsq(given, second @ w["c.kernel"], rcond=None)[0]
    np.testing.assert_allclose(found["c.kernel"][kept["b"]], c, atol=1e-3)
    assert not found["c.kernel"][[0, 3, 5]].any()


def test_behind_one_removal_it_is_the_symmetric_repair_and_then_it_goes_on():
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    variables = graph.source.variables
    batches = [np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype(np.float32)]
    kept = {"conv1": np.array([0, 3, 4, 6]), "conv2": np.arange(8)}
    every = 10**6
    symmetric = repair(graph, gather(graph, variables, batches, every), variables, kept)
    found = AsymmetricRepair(graph, variables, batches, every)(kept)
    np.testing.assert_allclose(found["conv2.kernel"], symmetric["conv2.kernel"], atol=1e-3)
    # The last layer loses no input, but its inputs have changed: it makes the best of them.
    masks = Masks(graph)

    def logits(variables):
        masked = masks.apply(variables, jnp.asarray(masks.vector(kept)))
        return np.asarray(graph.source.apply(masked, batches[0], False)[0])

    wanted = np.asarray(graph.source.apply(variables, batches[0], False)[0])
    errors = [np.square(logits(v) - wanted).sum() for v in (symmetric, found)]
    assert errors[1] < errors[0]


def test_nothing_to_look_at_is_refused():
    graph = trace(made(Three), shape(1, 5))
    with pytest.raises(ReconstructError, match="expected batches of inputs and a ridge above zero"):
        AsymmetricRepair(graph, graph.source.variables, [])
