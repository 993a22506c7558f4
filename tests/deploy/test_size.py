"""The size of a file, from the policy alone; and which processors compute it right."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress
from pfrl.cost import CostModel
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.litert.size import LiteRTSize
from pfrl.deploy.onnx.export import export_onnx, to_onnx
from pfrl.deploy.onnx.integers import to_integer_model
from pfrl.deploy.onnx.saturation import right_everywhere, saturates
from pfrl.deploy.onnx.size import OnnxSize
from pfrl.deploy.operators.quantized import build_quantized
from pfrl.graph import trace
from tests.support.conformance import random_source
from tests.support.integers import quantized
from tests.support.narrow import CLASSIC, MODERN
from tests.support.tiny import shape

ZOO = CLASSIC | MODERN
OFTEN = {"mobilenet_v2": (), "resnet20": pytest.mark.ci}
EVERY = [pytest.param(name, marks=OFTEN.get(name, pytest.mark.slow)) for name in ZOO]
FORMATS = {"onnx": (OnnxSize, export_onnx), "litert": (LiteRTSize, export_litert)}
METADATA = {"classes": "cat, dog", "mean": "0.5"}


@cache
def network(name):
    constructor, image = ZOO[name]
    graph = trace(random_source(constructor), shape(1, *image))
    images = np.random.default_rng(0).normal(size=(8, *image)).astype(np.float32)
    seen = gather_statistics(graph, Recipe(), [(images, None)], quantized=True)
    return graph, seen, {kind: FORMATS[kind][0](graph, metadata=METADATA) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", EVERY)
def test_the_size_is_that_of_the_file(name, kind, tmp_path):
    graph, seen, sizes = network(name)
    rng = np.random.default_rng(1)
    for number, (weights, inputs) in enumerate(((32, 32), (8, 8), (3, 8), (8, 4), (8, 32))):
        keep = {group: float(rng.uniform(0.2, 1)) for group in graph.groups}
        policy = replace(Policy.uniform(graph, 1.0, weights, inputs), keep=keep)
        small = compress(graph.source, policy, graph=graph, statistics=seen)
        path = FORMATS[kind][1](small, graph.input_shape, tmp_path / str(number), METADATA)
        found = sizes[kind](policy.counts(graph), policy.weight_bits, policy.act_bits)
        # Whether a shuffle of channels is still one depends on which channels are kept.
        off = 0.02 * found if name.startswith("shufflenet") else 0
        assert abs(found - path.stat().st_size) <= off, (weights, inputs, policy.counts(graph))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_size_is_that_of_a_file_of_any_bits(kind, tmp_path):
    """What stays in float32 does not share the grid of what it is joined to."""
    graph, seen, sizes = network("unet")
    rng = np.random.default_rng(5)
    for number in range(2):
        keep = {group: float(rng.uniform(0.05, 1)) for group in graph.groups}
        weights, inputs = (
            {layer.name: int(rng.choice(widths)) for layer in graph.layers}
            for widths in ([2, 4, 8, 32], [4, 8, 8, 8, 32])
        )
        policy = Policy(keep, weights, inputs)
        small = compress(graph.source, policy, graph=graph, statistics=seen)
        path = FORMATS[kind][1](small, graph.input_shape, tmp_path / str(number), METADATA)
        assert sizes[kind](policy.counts(graph), weights, inputs) == path.stat().st_size


def test_bytes_are_those_of_the_file_and_packed_ones_of_the_arrays():
    graph, _, sizes = network("mobilenet_v2")
    costs = CostModel(graph, file=sizes["onnx"])
    whole = to_onnx(
        lambda x: graph.source.apply(graph.source.variables, x, False)[0], graph.input_shape
    )
    helper.set_model_props(whole, METADATA)
    assert costs.base["bytes"] == whole.ByteSize()
    eight, four = (costs.of(Policy.uniform(graph, 1.0, bits, 8)) for bits in (8, 4))
    assert eight["bytes"] == four["bytes"] and four["packed"] < eight["packed"]
    light = costs.of(Policy.uniform(graph, 1.0, 4, 32))
    assert light["bytes"] < 0.5 * costs.base["bytes"]
    assert costs.monotone("bytes", ("keep", "weight_bits", "sparsity"))
    assert not costs.monotone("bytes", ("act_bits",))
    assert CostModel(graph).of(Policy.uniform(graph))["bytes"] == costs.base["packed"]


@pytest.mark.parametrize(("bits", "right"), [(8, False), (7, True), (4, True)])
def test_pairs_of_products_of_seven_bits_fit(bits, right):
    small, images = quantized("lenet5", weight_bits=bits)
    model = to_integer_model(*build_quantized(small, images.shape[1:]))
    assert right_everywhere(model) is right


def test_the_largest_two_weights_of_an_output_decide():
    """128 · 255 is 32,640, the last that fits; 129 · 255 is more than 32,767."""
    for pair, right in ((64, 64), True), ((127, 2), False), ((127, 1), True), ((-127, -2), False):
        codes = np.array([[*pair, 0, 1], [1, 1, 1, 1]], np.int8)
        node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=0)
        constants = {"w": codes, "s": np.ones(2, np.float32)}
        graph = helper.make_graph(
            [node], "g", [], [], [numpy_helper.from_array(a, n) for n, a in constants.items()]
        )
        assert right_everywhere(helper.make_model(graph)) is right, pair


def test_whether_this_processor_saturates_is_found_out():
    """VNNI sums up in 32 bits; so does ARM."""
    assert saturates() in (True, False)
