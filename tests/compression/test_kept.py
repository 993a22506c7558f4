"""What was gathered of a network is kept, bit for bit, as long as nothing about it changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.compression import kept
from pfrl.compression.calibration import gather_statistics
from pfrl.compression.recipe import Recipe
from pfrl.graph import trace
from pfrl.graph.frontends import from_function
from tests.support.tiny import Dense, TwoConvs, made, shape

EVERYTHING = Recipe(repair="least_squares", calibration="mse", bias_correction=True)


@pytest.fixture
def gathered(tmp_path, monkeypatch):
    """How often something was gathered; the cache is a folder of the test's own."""
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    calls, make = [], kept.as_arrays

    def counted(found):
        calls.append(found)
        return make(found)

    monkeypatch.setattr(kept, "as_arrays", counted)
    return calls


def gather(graph, seed=0, recipe=EVERYTHING, **options):
    x = np.random.default_rng(seed).normal(size=(2, 4, *graph.input_shape)).astype(np.float32)
    batches = [(each, np.zeros(4, np.int32)) for each in x]
    return gather_statistics(graph, recipe, batches, quantized=True, keep=True, **options)


def test_what_was_gathered_comes_back_bit_for_bit(gathered):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    first, second = gather(graph), gather(trace(made(TwoConvs), shape(1, 8, 8, 1)))
    assert len(gathered) == 1 and first.moments and first.inputs and first.sites

    def plain(found):
        return [(g.kernel.layers, g.matrix, g.rows) for g in found.moments], (
            found.inputs,
            found.sites,
        )

    for one, other in zip(*map(jax.tree.leaves, map(plain, (first, second))), strict=True):
        assert type(one) is type(other) and np.array_equal(one, other)


def test_whatever_decides_about_it_is_gathered_anew(gathered):
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    gather(graph)
    gather(graph, seed=1)  # other images
    gather(trace(made(TwoConvs, seed=1), shape(1, 8, 8, 1)))  # other weights
    gather(trace(made(Dense), shape(1, 3)))
    gather(graph, recipe=Recipe(repair="least_squares"))
    assert len(gathered) == 5


def test_programs_of_the_same_arrays_are_told_apart():
    kernel = {"w": np.ones((3, 3), np.float32)}

    def facts(function, variables=kernel):
        return kept.facts_of_network(trace(from_function(function, variables), shape(1, 3)))

    steep, twice = np.ones(3, np.float32), 2 * np.ones(3, np.float32)
    found = [
        facts(lambda v, x: jax.nn.relu(x @ v["w"])),
        facts(lambda v, x: jnp.tanh(x @ v["w"])),
        facts(lambda v, x: (x @ v["w"]) * steep),
        facts(lambda v, x: (x @ v["w"]) * twice),
    ]
    assert len({str(each) for each in found}) == 4
    assert facts(lambda v, x: jnp.tanh(x @ v["w"])) == found[1]
