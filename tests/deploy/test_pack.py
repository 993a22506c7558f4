"""Networks as packed files: exactly as large as predicted, and the same network when read."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Preparer
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import assemble, compress
from pfrl.cost import CostModel
from pfrl.deploy.packed.encoding import Stored
from pfrl.deploy.packed.pack import pack, unpack
from pfrl.deploy.packed.storage import Storage
from pfrl.graph import trace
from tests.support.conformance import examples
from tests.support.narrow import CLASSIC
from tests.support.tiny import Shared, TwoConvs, made, shape

WIDTHS = (2, 3, 4, 5, 8, 32)


@cache
def narrow(name):
    constructor, image = CLASSIC[name]
    return trace(made(constructor), shape(2, *image))


@cache
def prepared_by(name, recipe):
    """A preparer, which compiles once for every shape of a kernel."""
    graph = narrow(name)
    return Preparer(gather_statistics(graph, recipe))


def random_policy(graph, rng, widths=WIDTHS, shares=(0.0, 0.3, 0.5, 0.9)):
    """Any channels, any bits, and some layers sparse."""
    names = [layer.name for layer in graph.layers]
    return Policy(
        {name: float(rng.uniform(0.05, 1)) for name in graph.groups},
        {name: int(rng.choice(widths)) for name in names},
        {name: int(rng.choice(WIDTHS)) for name in names},
        int(rng.choice([1, 4])),
        {name: share for name in names if (share := float(rng.choice(shares)))},
    )


def random_ranges(graph):
    return {site.name: (-0.5, 1.0 + number) for number, site in enumerate(graph.sites)}


RECIPES = {
    "minmax": Recipe(),
    "codebook": Recipe(weights="codebook"),
    "2:4": Recipe(pattern="2:4"),
}


@pytest.mark.parametrize(
    "network", ["resnet20", pytest.param("mobilenet_v2", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", RECIPES)
@examples(4)
@given(seed=st.integers(0, 10**6))
def test_a_file_has_exactly_the_predicted_bytes(tmp_path_factory, network, name, seed):
    graph, recipe = narrow(network), RECIPES[name]
    rng = np.random.default_rng(seed)
    shares = (0.0, 0.5) if recipe.pattern == "2:4" else (0.0, 0.3, 0.5, 0.9, 0.999)
    widths = (1, *WIDTHS) if recipe.weights == "codebook" else WIDTHS
    policy = random_policy(graph, rng, widths, shares)
    prepared = prepared_by(network, recipe)(policy)
    small = assemble(graph, policy, prepared, recipe, random_ranges(graph))
    path = tmp_path_factory.mktemp("pack") / "m.packed"
    sizes = pack(small, path)
    assert sizes.payload == CostModel(graph, recipe=recipe).of(policy)["bytes"]
    assert path.stat().st_size == sizes.file == sizes.header + sizes.payload
    plan = Storage(graph, recipe).stored(policy.counts(graph), policy.weight_bits, policy.sparsity)
    assert sizes.arrays == {
        name: stored._replace(shape=tuple(stored.shape)) for name, stored in plan.items()
    }
    found = unpack(path)
    assert {n: (v.shape, v.dtype) for n, v in found.items()} == {
        n: (np.shape(v), np.asarray(v).dtype) for n, v in small.variables.items()
    }
    for name in graph.source.variables:
        if name not in Storage(graph, recipe).bits(policy.weight_bits):
            np.testing.assert_array_equal(found[name], small.variables[name])


TRAINED = {
    "minmax": Recipe(),
    "mse": Recipe(weights="mse", clips="lsq"),
    "lsq": Recipe(weights="lsq", clips="pact"),
    "codebook": Recipe(weights="codebook"),
    "clusters": Recipe(weights="codebook_clusters"),
}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("sparse", [False, True])
def test_a_network_that_was_read_has_the_same_outputs(tmp_path, name, sparse):
    """To the last digit: a compiler may divide by the levels of a grid in another order."""
    graph = trace(made(TwoConvs), shape(3, 8, 8, 1))
    bits = {"conv1": 3, "conv2": 4, "linear": 32}
    policy = Policy(
        {"conv1": 0.6, "conv2": 0.8},
        bits,
        {**bits, "conv1": 8},
        sparsity={"conv1": 0.3, "conv2": 0.7} if sparse else {},
    )
    small = compress(
        graph.source, policy, graph=graph, recipe=TRAINED[name], ranges=random_ranges(graph)
    )
    small = trained(small, np.random.default_rng(1))
    pack(small, tmp_path / "m.packed")
    found = unpack(tmp_path / "m.packed")
    apply = jax.jit(lambda variables, x: small.apply(variables, x, False)[0])
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    expected = apply(small.variables, x)
    np.testing.assert_allclose(apply(found, x), expected, rtol=1e-5, atol=2e-6)
    again = dataclasses.replace(small, variables=found)
    pack(again, tmp_path / "again.packed")
    assert (tmp_path / "again.packed").read_bytes() == (tmp_path / "m.packed").read_bytes()


def trained(small, rng):
    """With all that training changes changed a little."""
    variables = dict(small.variables)
    for name in small.trainable:
        noise = rng.normal(1, 0.05, np.shape(variables[name]))
        variables[name] = (np.asarray(variables[name]) * noise).astype(np.float32)
    return dataclasses.replace(small, variables=variables)


# 8-bit levels: 1.0000001 · 127 in float32 is 127.00002, and that divided by 127 is 1.0000001
# again; 1.0000004 · 127 is 127.00005, which gives 1.0000005.
def test_the_grid_of_a_packed_kernel_follows_from_its_largest_weight():
    """A kernel is stored as integers and ``s = max / L``; read, its largest weight is ``L · s``."""
    largest = (1 + np.arange(2**23) / 2**23).astype(np.float32)  # Every mantissa there is.
    for bits in range(2, 9):
        levels = np.float32(2 ** (bits - 1) - 1)
        scale = largest / levels
        assert np.array_equal(levels * scale / levels, scale)


def test_a_shared_kernel_is_there_once(tmp_path):
    graph = trace(made(Shared), shape(1, 6, 6, 2))
    policy = Policy.uniform(graph, 1.0, 4, 32)
    sizes = pack(compress(graph.source, policy, graph=graph), tmp_path / "m.packed")
    assert sizes.payload == CostModel(graph).of(policy)["bytes"]
    assert sizes.arrays["shared.kernel"] == Stored("uniform", (3, 3, 6, 6), 4, (6,), False, 9 * 36)
