"""The latency of a network: what a table of its layers says, fitted to whole networks."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from jax import lax

from pfrl.cost.budget import BudgetError
from pfrl.cost.latency import MOST, NetworkLatency, layer_shape
from pfrl.cost.latency_table import Grid, LatencyTable, LayerGrids, LayerShape
from pfrl.graph import trace
from tests.support.tiny import Dense, TwoConvs, made, shape

A, B = LayerShape("dense", c_in=3, c_out=4), LayerShape("dense", c_in=4, c_out=2)
# A millisecond for every four outputs of the first layer and for every two inputs of the second.
TABLE = LatencyTable(
    layers={
        A: LayerGrids(Grid((3,), (0, 4), ((0.0, 1.0),)), None),
        B: LayerGrids(Grid((0, 4), (2,), ((0.0,), (2.0,))), None),
    },
    overhead_ms=0.5,
    block=2,
    threads=1,
    batch=1,
    runtime_version="1",
    instruction_set="none",
)


@pytest.fixture(scope="module")
def graph():
    return trace(made(Dense), shape(1, 3))


def test_a_network_is_its_layers_its_overhead_and_a_penalty_for_uneven_groups(graph):
    model = NetworkLatency(graph, TABLE, {"others": 2.0}, intercept=0.25, penalties={"a": 0.125})
    # 4 channels: 1 + 2 milliseconds by the table, doubled; even.
    assert model.layers_ms({"a": 4}) == {"others": 3.0}
    assert model({"a": 4}) == 0.25 + 2 * 3.0
    # 3 channels are computed as 4 by the first layer, and are no multiple of 2.
    assert model.layers_ms({"a": 3}) == {"others": 1.0 + 1.5}
    assert model({"a": 3}) == 0.25 + 2 * 2.5 + 0.125


def test_the_fit_finds_what_whole_networks_were_made_of(graph):
    truth = NetworkLatency(graph, TABLE, {"others": 1.5}, intercept=0.25, penalties={"a": 0.375})
    samples = [({"a": n}, truth({"a": n})) for n in (4, 1, 2, 3)]
    found = NetworkLatency.fitted(graph, TABLE, samples)
    assert found.factors == pytest.approx({"others": 1.5})
    assert found.intercept == pytest.approx(0.25)
    assert found.penalties == pytest.approx({"a": 0.375})


def test_a_factor_stays_within_what_is_plausible(graph):
    """Networks that take ten times what their layers do, 3 and 1.5 ms: 12 and 6 are allowed.

    The intercept for which ((i - 18) / 30)^2 + ((i - 9) / 15)^2 is least is (18 + 4 · 9) / 5.
    """
    samples = [({"a": n}, ms) for n, ms in ((4, 30.0), (2, 15.0))]
    found = NetworkLatency.fitted(graph, TABLE, samples)
    assert found.factors["others"] == pytest.approx(MOST)
    assert found.intercept == pytest.approx(10.8)


def test_families_have_factors_of_their_own():
    """Depthwise layers that take a tenth of what they take alone, and all others twice as long."""
    graph = trace(made(Unusual), shape(1, 4, 4, 2))
    grids = {}
    for layer in graph.layers:
        known = layer_shape(layer, graph)
        ins, outs = (1, known.c_in), (1, known.c_out)
        grid = Grid(
            ins, outs, tuple(tuple(0.1 * i * o + layer.positions for o in outs) for i in ins)
        )
        grids[known] = LayerGrids(grid, None)
    table = replace(TABLE, layers=grids, block=1)
    factors = {"pointwise": 2.0, "others": 2.0, "depthwise": 0.1}
    truth = NetworkLatency(graph, table, factors, 0.0, dict.fromkeys(graph.groups, 0.0))
    rng = np.random.default_rng(0)
    full = graph.full_counts()
    counts = [full, *({g: int(rng.integers(1, n + 1)) for g, n in full.items()} for _ in range(9))]
    found = NetworkLatency.fitted(graph, table, [(each, truth(each)) for each in counts])
    assert found.factors == pytest.approx(factors, abs=1e-6)


def test_the_base_network_counts_as_much_as_all_others_together(graph):
    """One network was measured at 3.5 ms, as the base, and three times at 7 ms.

    The sum of 3 (p / 3.5 - 1)^2 and 3 (p / 7 - 1)^2 is least at p = 4.2.
    """
    samples = [({"a": 4}, ms) for ms in (3.5, 7.0, 7.0, 7.0)]
    found = NetworkLatency.fitted(graph, TABLE, samples)
    assert found({"a": 4}) == pytest.approx(4.2)
    assert min(*found.factors.values(), found.intercept, *found.penalties.values()) >= 0


def test_a_model_survives_json(graph):
    model = NetworkLatency(graph, TABLE, {"others": 2.0}, intercept=0.25, penalties={"a": 0.125})
    again = NetworkLatency.from_json(graph, json.loads(json.dumps(model.to_json())))
    assert again == model
    with pytest.raises(KeyError):
        NetworkLatency.from_json(graph, {**model.to_json(), "penalties": {}})


def test_what_the_table_knows_layers_by(graph):
    assert [layer_shape(layer, graph) for layer in graph.layers] == [A, B]
    convs = trace(made(TwoConvs), shape(1, 8, 8, 1))
    first, second, dense = (layer_shape(layer, convs) for layer in convs.layers)
    same = ((1, 1), (1, 1))
    assert first == LayerShape("conv", (3, 3), (1, 1), same, 1, 8, 8, 1, 8)
    # Padded as TensorFlow does: with a stride of 2, an even size is padded at its end only.
    assert second == LayerShape("conv", (3, 3), (2, 2), ((0, 1), (0, 1)), 1, 8, 8, 8, 8)
    assert dense == LayerShape("dense", c_in=8, c_out=4)


class Unusual(nnx.Module):
    """A grouped convolution, a depthwise one, one in a single dimension, and dense tokens."""

    def __init__(self, rngs):
        self.first = nnx.Conv(2, 8, (1, 1), rngs=rngs)
        self.grouped = nnx.Conv(8, 8, (3, 3), feature_group_count=2, rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.line = nnx.Conv(8, 6, (5,), rngs=rngs)
        self.tokens = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.depthwise(jax.nn.relu(self.grouped(self.first(x)))))
        x = jax.nn.relu(self.line(x.reshape(len(x), -1, 8)))
        return self.tokens(x).mean(axis=1)


def test_grouped_depthwise_one_dimensional_and_token_layers():
    graph = trace(made(Unusual), shape(1, 4, 4, 2))
    shapes = {layer.name: layer_shape(layer, graph) for layer in graph.layers}
    assert {name: each.family for name, each in shapes.items()} == {
        **{"first": "pointwise", "grouped": "others", "depthwise": "depthwise"},
        **{"line": "others", "tokens": "pointwise"},
    }
    grouped, depthwise = shapes["grouped"], shapes["depthwise"]
    assert (grouped.kind, grouped.groups, grouped.c_in, grouped.c_out) == ("conv", 2, 8, 8)
    assert (depthwise.kind, depthwise.groups, depthwise.c_in) == ("depthwise", 8, 8)
    line = shapes["line"]
    assert (line.kernel, line.strides, line.padding) == ((5, 1), (1, 1), ((2, 2), (0, 0)))
    assert (line.height, line.width, line.c_in, line.c_out) == (16, 1, 8, 6)
    # Sixteen tokens are a picture of 16 × 1 pixels, whose 1×1 convolution does the same.
    assert shapes["tokens"] == LayerShape("conv", height=16, width=1, c_in=6, c_out=4)


def test_a_convolution_in_three_dimensions_has_no_latency():
    kernels = {"a": np.ones((3, 3, 3, 2, 4), np.float32), "b": np.ones((4, 2), np.float32)}

    def network(variables, x):
        x = lax.conv_general_dilated(
            x, variables["a"], (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
        return jax.nn.relu(x).mean(axis=(1, 2, 3)) @ variables["b"]

    graph = trace(network, shape(1, 4, 4, 4, 2), variables=kernels)
    with pytest.raises(BudgetError, match="in 3 dimensions, of which no latency is predicted"):
        layer_shape(graph.layers[0], graph)
