"""Cross-layer equalization: the same function, its channels of one size."""

import jax
import numpy as np
import pytest

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.recipe import Recipe
from pfrl.graph import trace
from pfrl.methods.quantization.equalize import equalized
from tests.support.conformance import random_source
from tests.support.narrow import CLASSIC
from tests.support.tiny import Dense, TwoConvs, made, resnet8, shape


def apart(variables, others):
    return {n for n, v in variables.items() if not np.allclose(v, others[n], rtol=1e-5)}


def test_a_dense_pair_is_equalized_by_the_formula():
    graph = trace(made(Dense), shape(4, 3))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    before, after = graph.source.variables, equalized(graph, graph.source.variables, x)
    sizes = []
    for v in (before, after):
        made_by = np.abs(np.concatenate([v["a.kernel"], v["a.bias"][None]])).max(0)
        sizes.append((made_by, np.abs(v["b.kernel"]).max(1)))
    (r1, r2), (new1, new2) = sizes
    s = np.sqrt(r1 * r2) / r2
    s = s / np.exp(np.log(s).mean())
    np.testing.assert_allclose(new1, r1 / s, rtol=1e-5)
    np.testing.assert_allclose(new2, r2 * s, rtol=1e-5)


@pytest.mark.parametrize("network", [TwoConvs, resnet8])
def test_the_function_stays_the_same_in_both_modes(network):
    graph = trace(random_source(network), shape(8, 8, 8, 1))
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    variables = graph.source.variables
    found = equalized(graph, variables, x)
    assert {name for name in apart(variables, found) if "kernel" in name}
    for train in (False, True):
        ours, theirs = (graph.source.apply(v, x, train)[0] for v in (variables, found))
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3 * np.abs(ours).max())


def test_channels_that_meet_another_activation_are_left_alone():
    """Of MobileNet-v2 those between the blocks, which meet none; inside there is ReLU6."""
    constructor, image = CLASSIC["mobilenet_v2"]
    graph = trace(random_source(constructor), shape(8, *image))
    x = np.random.default_rng(0).normal(size=(8, *image)).astype(np.float32) * 3
    variables = graph.source.variables
    found = equalized(graph, variables, x)
    run = jax.jit(lambda v: graph.source.apply(v, x, False)[0])
    ours, theirs = run(variables), run(found)
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3 * np.abs(ours).max())


def test_statistics_are_those_of_the_equalized_network():
    graph = trace(made(TwoConvs), shape(4, 8, 8, 1))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    plain, seen = (
        gather_statistics(graph, Recipe(equalize=name), [(x, np.zeros(4, int))], quantized=True)
        for name in ("none", "cross_layer")
    )
    assert apart(plain.variables, seen.variables)
    assert plain.sites["conv2"].high != seen.sites["conv2"].high
