"""Integer files: what is simulated in JAX, computed by the reference and run by ONNX Runtime."""

from collections import Counter
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx
from onnx import numpy_helper

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress
from pfrl.deploy.litert.export import to_litert
from pfrl.deploy.onnx.check import checked, outputs
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.onnx.integers import to_integer_model
from pfrl.deploy.operators.biases import with_rounded_biases
from pfrl.deploy.operators.build import build
from pfrl.deploy.operators.quantized import build_quantized
from pfrl.deploy.reference.check import DifferenceError
from pfrl.deploy.reference.operators import OPERATORS
from pfrl.deploy.reference.run import Reference
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.graph import trace
from pfrl.graph.labelled.program import BATCH
from tests.support.conformance import random_source
from tests.support.marks import shown_elsewhere
from tests.support.narrow import CLASSIC, MODERN
from tests.support.tiny import TwoConvs, shape

ZOO = CLASSIC | MODERN
OFTEN = ("resnet20", "mobilenet_v2", "squeezenet", "vit_tiny")
EVERY = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]
BITS = 7
"""Of weights: sums of pairs of products then fit into 16 bits, and no processor saturates."""


@cache
def network(name, recipe=None):
    """Its graph, images, and statistics of them."""
    constructor, image = (TwoConvs, (8, 8, 1)) if name == "two" else ZOO[name]
    graph = trace(random_source(constructor), shape(1, *image))
    images = np.random.default_rng(0).normal(size=(24, *image)).astype(np.float32)
    statistics = gather_statistics(graph, recipe or Recipe(), [(images, None)], quantized=True)
    return graph, images, statistics


def quantized(name, keep=1.0, weight_bits=BITS, act_bits=8, recipe=None):
    graph, images, statistics = network(name, recipe)
    policy = Policy.uniform(graph, keep, weight_bits, act_bits)
    return compress(graph.source, policy, graph=graph, statistics=statistics), images


def optimised(model, tmp_path):
    """The operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = onnx.load(tmp_path / "optimised.onnx").graph.node
    return Counter(node.op_type for node in found)


@pytest.mark.parametrize("name", EVERY)
def test_both_layouts_are_the_network(name):
    constructor, image = ZOO[name]
    source = random_source(constructor)
    images = np.random.default_rng(0).normal(size=(3, *image)).astype(np.float32)

    def run(x):
        return source.apply(source.variables, x, False)[0]

    expected = np.asarray(jax.jit(run)(images))
    for channels in ("first", "last"):
        found = Reference(build(run, image, channels))(images)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("keep", shown_elsewhere([1.0, 0.6], [1.0]))
@pytest.mark.parametrize("name", EVERY)
def test_file_reference_and_simulation_agree(name, keep):
    small, images = quantized(name, keep)
    image = images.shape[1:]
    graph, quantization = build_quantized(small, image)
    held = {graph.sites[value] for value in graph.values.values() if value in graph.sites}
    assert held == {site.name for site in small.graph.sites}, "no rounding is lost"
    model = to_integer_model(graph, quantization)
    onnx.checker.check_model(model, full_check=True)
    reference = Reference(graph, quantization)(images)
    found = Session(model.SerializeToString()).logits(images)
    simulated = np.asarray(jax.jit(small)(images))
    spread = simulated.std()
    # A sum at the middle of two steps may go to either; in a random network that travels far.
    assert np.abs(found - reference).mean() < 0.002 * spread
    assert np.abs(simulated - reference).mean() < 0.15 * spread
    last = Reference(*build_quantized(small, image, "last"))(images)
    np.testing.assert_array_equal(last, reference)


@pytest.mark.parametrize(
    "name",
    shown_elsewhere(
        ["resnet20", "resnet20b", "mobilenet_v1", "mobilenet_v2", "efficientnet_lite0"],
        ["resnet20b", "mobilenet_v1", "efficientnet_lite0"],
    ),
)
def test_no_float_convolution_is_left(name, tmp_path):
    small, images = quantized(name)
    found = optimised(to_integer_model(*build_quantized(small, images.shape[1:])), tmp_path)
    assert not found.keys() & {"Conv", "FusedConv", "Gemm", "Add", "GlobalAveragePool"}
    assert "DequantizeLinear" not in found
    assert found["QuantizeLinear"] == 1, "that of the images"
    assert found["QLinearConv"] >= sum(layer.kind != "dense" for layer in small.graph.layers)


def test_a_file_holds_no_number_twice():
    """Steps of a bias follow from two others; what quantizes a tensor dequantizes it, too."""
    small, images = quantized("resnet20")
    graph = to_integer_model(*build_quantized(small, images.shape[1:])).graph
    held = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    kernels = [a for a in held.values() if a.ndim > 1]
    outputs = sum(a.shape[0] if a.ndim == 4 else a.shape[1] for a in kernels)
    assert sum(a.size for a in held.values() if a.ndim == 1 and a.dtype == np.float32) == outputs
    sites = sum(node.op_type == "QuantizeLinear" for node in graph.node)
    assert sum(a.ndim == 0 and a.dtype == np.float32 for a in held.values()) == sites


@pytest.mark.parametrize("recipe", [Recipe(weights="mse"), Recipe(weights="lsq", clips="lsq")])
@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_codes_of_int8(recipe, bits):
    small, images = quantized("two", 1.0, bits, bits, recipe)
    graph, quantization = build_quantized(small, images.shape[1:])
    for node in graph.nodes:
        if node.layer is not None:
            kernel, steps = graph.constants[node.inputs[1]], quantization.steps[node.inputs[1]]
            axis = 0 if node.op == "Conv" else 1
            whole = kernel / np.expand_dims(steps, [i for i in range(kernel.ndim) if i != axis])
            np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
            assert len(np.unique(np.round(whole))) < 2**bits
            assert 32 < np.round(np.abs(whole).max()) <= 64, "two of them fit 16 bits with a code"
    reference = Reference(graph, quantization)
    read = {site.name for site in small.graph.sites if site.readers}
    largest = {
        reference.sites.get(name): each.max() for name, each in reference.codes(images).items()
    }
    assert max(largest[name] for name in read) <= 2**bits - 1
    found = Session(to_integer_model(graph, quantization).SerializeToString()).logits(images)
    np.testing.assert_allclose(found, reference(images), atol=1e-4)
    simulated = np.asarray(jax.jit(small)(images))
    # Biases are rounded in the file alone; of few codes one that is another is much.
    assert np.abs(simulated - found).mean() < 0.05 * simulated.std()


def test_a_channel_whose_step_training_let_grow_keeps_its_bias():
    """All of its weights are rounded to zero, so that any step gives the same network."""
    small, images = quantized("two", recipe=Recipe(weights="lsq", clips="lsq"))
    step = np.array(small.variables["quantizer.conv2.kernel.step"])
    step[1] = 1e4
    variables = {**small.variables, "quantizer.conv2.kernel.step": step}
    grown = replace(small, variables=variables)
    simulated = np.asarray(jax.jit(grown)(images))
    for session in (
        Session(to_integer_model(*build_quantized(grown, images.shape[1:])).SerializeToString()),
        LiteRTSession(to_litert(grown, images.shape[1:])),
    ):
        found = session.logits(images)
        assert np.abs(simulated - found).mean() < 0.02 * simulated.std()


def test_layers_of_32_bits_stay_float_with_pairs_at_their_borders(tmp_path):
    graph, images, statistics = network("two")
    bits = {"conv1": 32, "conv2": 8, "linear": 8}
    policy = Policy(dict.fromkeys(graph.groups, 1.0), bits, bits)
    small = compress(graph.source, policy, graph=graph, statistics=statistics)
    operators, quantization = build_quantized(small, images.shape[1:])
    model = to_integer_model(operators, quantization)
    found = optimised(model, tmp_path)
    assert found["QLinearConv"] == 1 and found["QGemm"] == 1
    assert found["QuantizeLinear"] == 1 and "DequantizeLinear" not in found
    simulated = np.asarray(jax.jit(small)(images))
    logits = Session(model.SerializeToString()).logits(images)
    assert np.abs(simulated - logits).mean() < 0.02 * simulated.std()


def test_kernels_of_few_bits_with_float_inputs_become_floats_when_the_file_is_loaded(tmp_path):
    small, images = quantized("two", weight_bits=8, act_bits=32)
    path = export_onnx(small, images.shape[1:], tmp_path / "m.onnx", images=images)
    model = onnx.load(path)
    kernels = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    weights = [small.variables[layer.kernel].size for layer in small.graph.layers]
    assert [np.prod(each.dims) for each in kernels] == weights
    found = optimised(model, tmp_path)
    assert not found.keys() & {"Cast", "Mul", "DequantizeLinear", "QuantizeLinear"}
    logits = Session(path).logits(images)
    np.testing.assert_allclose(logits, jax.jit(small)(images), rtol=1e-4, atol=1e-5)


class PaddedFirst(nnx.Module):
    """As PyTorch's files of TensorFlow's networks are: zeros are put around an activation."""

    def __init__(self, rngs):
        self.expand = nnx.Conv(1, 6, (1, 1), rngs=rngs)
        self.deep = nnx.Conv(6, 6, (3, 3), 2, padding="VALID", feature_group_count=6, rngs=rngs)
        self.out = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        x = jnp.clip(self.expand(x), 0, 6)
        x = self.deep(jnp.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)]))
        return self.out(x.mean((1, 2)))


def test_padding_belongs_to_the_layer_behind_it(tmp_path):
    graph = trace(random_source(PaddedFirst), shape(1, 8, 8, 1))
    images = np.random.default_rng(0).normal(size=(24, 8, 8, 1)).astype(np.float32)
    statistics = gather_statistics(graph, Recipe(), [(images, None)], quantized=True)
    policy = Policy.uniform(graph, 1.0, BITS, 8)
    small = compress(graph.source, policy, graph=graph, statistics=statistics)
    model = to_integer_model(*build_quantized(small, (8, 8, 1)))
    found = optimised(model, tmp_path)
    assert found["QLinearConv"] == 2 and not found.keys() & {"Conv", "Pad"}
    reference = Reference(*build_quantized(small, (8, 8, 1)))(images)
    np.testing.assert_array_equal(outputs(model, images)[0], reference)


def test_a_channel_that_is_next_to_switched_off_has_its_bias():
    """Beside its kernel that is 10^11 steps, and files have 32 bits for it."""
    graph, images, _ = network("two")
    own = {name: np.array(value) for name, value in graph.source.variables.items()}
    own["bn1.scale"][:2], own["bn1.bias"][:2] = 1e-11, (2.0, 1.0)
    graph = trace(graph.source._replace(variables=own), *graph.inputs)
    statistics = gather_statistics(graph, Recipe(), [(images, None)], quantized=True)
    policy = Policy.uniform(graph, 1.0, BITS, 8)
    small = compress(graph.source, policy, graph=graph, statistics=statistics)
    graph, quantization = build_quantized(small, images.shape[1:])
    reference = Reference(graph, quantization)(images)
    simulated = np.asarray(jax.jit(small)(images))
    found = outputs(to_integer_model(graph, quantization), images)[0]
    assert np.abs(simulated - reference).mean() < 0.02 * simulated.std()
    np.testing.assert_array_equal(found, reference)
    content = to_litert(small, images.shape[1:])
    assert np.abs(LiteRTSession(content).logits(images) - reference).mean() < 0.02 * found.std()


def test_kernels_of_uint8_compute_the_same():
    small, images = quantized("resnet20b")
    graph, quantization = build_quantized(small, images.shape[1:])
    found = outputs(to_integer_model(graph, quantization, portable=True), images)[0]
    reference = Reference(graph, quantization)(images)
    assert np.abs(found - reference).mean() < 0.002 * reference.std()


def test_an_exported_network_of_few_bits_computes_with_integers(tmp_path):
    small, images = quantized("two", weight_bits=8)
    path = export_onnx(small, (8, 8, 1), tmp_path / "m.onnx", images=images)
    model = onnx.load(path)
    assert optimised(model, tmp_path)["QLinearConv"] == 2
    plain = export_onnx(lambda x: small(x), (8, 8, 1), tmp_path / "simulated.onnx")
    simulated = Session(plain).logits(images)
    assert np.abs(Session(path).logits(images) - simulated).mean() < 0.02 * simulated.std()


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize(
    ("operator", "named"),
    [("Conv", "Conv of layer 'conv1'"), ("GlobalAveragePool", "GlobalAveragePool")],
)
def test_what_computes_something_else_is_named(bits, operator, named, monkeypatch):
    """Here it is the reference that is wrong; and JAX, as the network is another one."""
    small, images = quantized("two", weight_bits=bits, act_bits=bits)
    graph, quantization = build_quantized(small, images.shape[1:])
    model = to_integer_model(graph, quantization)
    right = OPERATORS[operator]
    wrong = dict(OPERATORS) | {operator: lambda *given: right(*given) * 2 + 1}
    monkeypatch.setattr("pfrl.deploy.reference.run.OPERATORS", wrong)
    with pytest.raises(DifferenceError, match=f"first operation that differs is {named}"):
        checked(model, graph, quantization, lambda x: 2 * small(x), images)


@pytest.mark.parametrize("cut_off", [False, True])
def test_outputs_far_off_pass_if_every_operation_is_right(cut_off, monkeypatch):
    """As those of a deep network are, in which roundings travel: here nothing is near enough.

    Where sums may be cut off a little everywhere, kernels of uint8 are taken.
    """
    small, images = quantized("two")
    graph, quantization = build_quantized(small, images.shape[1:])
    model = to_integer_model(graph, quantization)
    monkeypatch.setattr("pfrl.deploy.reference.check.INTEGERS", -1.0)
    monkeypatch.setattr("pfrl.deploy.onnx.check.saturates", lambda: cut_off)
    found = checked(model, graph, quantization, lambda x: small(x), images)
    kinds = {numpy_helper.to_array(each).dtype for each in found.graph.initializer if each.dims}
    assert (np.dtype(np.int8) in kinds) is not cut_off
    with pytest.raises(DifferenceError, match="those that were simulated"):
        checked(model, graph, quantization, lambda x: 3 * small(x), images)


def test_a_file_is_checked_before_it_is_there(tmp_path):
    source, images = random_source(TwoConvs), network("two")[1]

    def lies(x):
        """Its outputs are others wherever they are not exported."""
        logits = source.apply(source.variables, x, False)[0]
        return logits if x.shape[0] == BATCH else 2 * logits

    with pytest.raises(DifferenceError, match="compute different outputs"):
        export_onnx(lies, (8, 8, 1), tmp_path / "m.onnx", images=images)
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_rounded_has_no_grids():
    graph, images, statistics = network("two")
    small = compress(graph.source, Policy.uniform(graph), graph=graph, statistics=statistics)
    operators, quantization = build_quantized(small, images.shape[1:])
    assert not quantization.sites and not quantization.steps
    found = Session(to_integer_model(operators, quantization).SerializeToString()).logits(images)
    np.testing.assert_allclose(found, jax.jit(small)(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    shown_elsewhere(
        ["resnet20", "mobilenet_v2", "vit_tiny", "efficientnet_lite0", "resnet50", "squeezenet"],
        ["efficientnet_lite0", "resnet50", "squeezenet", "vit_tiny"],
    ),
)
def test_with_rounded_biases_the_simulation_is_the_file(name):
    small, images = quantized(name, 0.6)
    settled = with_rounded_biases(small, images.shape[1:])
    moved = [n for n, x in settled.variables.items() if (x != small.variables[n]).any()]
    assert moved and all(small.variables[n].ndim == 1 for n in moved)
    graph, quantization = build_quantized(settled, images.shape[1:])
    reference = Reference(graph, quantization)(images)
    simulated = np.asarray(jax.jit(settled)(images))
    assert np.abs(simulated - reference).mean() <= 0.002 * simulated.std()
    assert (simulated.argmax(-1) == reference.argmax(-1)).all()
    # It is the same network: what moved is less than a step of a layer's sums.
    before = np.asarray(jax.jit(small)(images))
    assert np.abs(simulated - before).mean() < 0.15 * before.std()
    again = with_rounded_biases(settled, images.shape[1:])
    for n in moved:
        np.testing.assert_allclose(again.variables[n], settled.variables[n], rtol=1e-5, atol=1e-6)


def test_floats_have_no_biases_to_round():
    graph, images, _ = network("two")
    small = compress(graph.source, Policy.uniform(graph, 0.6), graph=graph)
    assert with_rounded_biases(small, images.shape[1:]) is small
