"""The ONNX exporter: the same numbers as JAX, in a graph as lean as one written by hand."""

from collections import Counter, OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import ExportError, export_onnx, to_onnx
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.files import FileError
from pfrl.graph import trace as graph_trace
from pfrl.graph.source import from_nnx
from tests.support.exported import CONV, NETWORKS, POINT, A, B, C, D, convolve, odd_mean, resnet
from tests.support.tiny import TwoConvs, made, shape


def operators(function, shape):
    return Counter(node.op_type for node in to_onnx(function, shape).graph.node)


@pytest.mark.parametrize("name", NETWORKS)
def test_runtime_and_jax_agree(name, tmp_path):
    function, shape = NETWORKS[name]
    session = Session(export_onnx(function, shape, tmp_path / "m.onnx"))
    for batch in (1, 7):
        images = np.random.default_rng(batch).normal(0, 1, (batch, *shape)).astype(np.float32)
        expected = np.asarray(jax.jit(lambda x: function(x))(images))
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(session.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_resnet20_has_nothing_but_what_it_needs():
    assert operators(resnet(20, "A", 1, width=2), (28, 28, 1)) == {
        "Reshape": 1,  # NHWC to NCHW moves nothing with one channel
        "Conv": 21,  # 19 layers, and two shortcuts as 1x1 convolutions of zeros and ones
        "Relu": 19,
        "Add": 9,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


def test_colour_images_are_transposed_once():
    found = operators(*NETWORKS["resnet8-B"])
    assert found == {
        "Transpose": 1,
        "Conv": 9,
        "Relu": 7,
        "Add": 3,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


def test_flatten_permutes_the_next_kernel_in_place_of_the_images():
    found = operators(*NETWORKS["lenet"])
    assert "Transpose" not in found
    assert found["Gemm"] == 2 and found["MaxPool"] == found["AveragePool"] == found["Flatten"] == 1


def test_gates_and_clips_stay_single_nodes():
    found = operators(*NETWORKS["squeeze and excite"])
    assert found == {
        "Transpose": 1,
        "Conv": 4,
        "Clip": 2,
        "GlobalAveragePool": 2,
        "Relu": 1,
        "Sigmoid": 1,
        "Mul": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


@pytest.mark.parametrize(
    "normalise",
    [
        lambda y: y * (A / jnp.sqrt(B + 1e-5)) + (C - D * (A / jnp.sqrt(B + 1e-5))),
        lambda y: (y - D) * (A * jax.lax.rsqrt(B + 1e-5)) + C,
        lambda y: (y - D) / jnp.sqrt(B + 1e-5) * A + C,
        lambda y: C - A * (D - y) / B,
        lambda y: A * -(y + C),
    ],
    ids=["slope", "centred", "divided", "mirrored", "negated"],
)
def test_normalisation_vanishes_in_the_convolution(normalise, tmp_path):
    def network(x):
        return nnx.relu(normalise(convolve(x, CONV) + B)).mean((1, 2))

    assert set(operators(network, (4, 4, 3))) == {
        "Transpose",
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
    }
    images = np.random.default_rng(0).normal(0, 1, (2, 4, 4, 3)).astype(np.float32)
    session = Session(export_onnx(network, (4, 4, 3), tmp_path / "m.onnx"))
    np.testing.assert_allclose(session.logits(images), network(images), rtol=1e-4, atol=1e-4)


def test_normalised_images_cost_one_addition():
    assert operators(*NETWORKS["normalised images"]) == {
        "Transpose": 2,  # in, and out: the result of this network has channels last
        "Add": 1,
        "Conv": 1,
        "Relu": 1,
    }


def test_a_value_that_is_used_twice_is_not_folded_away(tmp_path):
    def network(x):
        y = convolve(x, CONV)
        return (convolve(nnx.relu(y * A + B), POINT) + y).mean((1, 2))

    images = np.random.default_rng(0).normal(0, 1, (3, 4, 4, 3)).astype(np.float32)
    session = Session(export_onnx(network, (4, 4, 3), tmp_path / "m.onnx"))
    np.testing.assert_allclose(session.logits(images), network(images), rtol=1e-4, atol=1e-4)
    assert operators(network, (4, 4, 3))["Mul"] == 1


def test_the_divisor_of_a_mean_is_honoured(tmp_path):
    """Four pixels of 3 over a literal 8 are 1.5, not their mean 3."""
    path = export_onnx(lambda x: x.sum((1, 2)) / 8.0, (2, 2, 1), tmp_path / "m.onnx")
    assert Session(path).logits(np.full((1, 2, 2, 1), 3.0)).tolist() == [[1.5]]


def test_what_is_not_rounded_costs_nothing(tmp_path):
    """Kernels of 4 bits are constants to the runtime; activations of 32 bits pass as they are."""
    graph = graph_trace(made(TwoConvs), shape(1, 8, 8, 1))
    small = compress(graph.source, Policy.uniform(graph, weight_bits=4), graph=graph)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(to_onnx(small, (8, 8, 1)).SerializeToString(), options)
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    found = {node.op_type.removeprefix("Fused") for node in nodes}
    assert found <= {"Conv", "Relu", "Reshape", "GlobalAveragePool", "Flatten", "Gemm"}
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    session = Session(export_onnx(small, (8, 8, 1), tmp_path / "small.onnx"))
    np.testing.assert_allclose(session.logits(x), small(x), rtol=1e-4, atol=1e-5)


def test_the_file_is_clean_and_carries_its_metadata(tmp_path):
    path = export_onnx(odd_mean, (6, 6, 3), tmp_path / "sub" / "m.onnx", {"model": "odd"})
    model = onnx.load(path)
    assert {prop.key: prop.value for prop in model.metadata_props} == {"model": "odd"}
    assert not model.graph.value_info
    (source,), (output,) = model.graph.input, model.graph.output
    assert (source.name, output.name) == ("images", "logits")
    sizes = source.type.tensor_type.shape.dim
    assert sizes[0].dim_param == "N" and [size.dim_value for size in sizes[1:]] == [6, 6, 3]
    assert all(
        w.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
        for w in model.graph.initializer
    )
    assert [each.name for each in path.parent.iterdir()] == ["m.onnx"]


def test_a_changed_module_is_traced_again(tmp_path):
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.eye(2)
    images = np.array([[1.0, 2.0]], np.float32)
    first = Session(export_onnx(model, (2,), tmp_path / "m.onnx")).logits(images)
    model.kernel[...] = 3 * jnp.eye(2)
    second = Session(export_onnx(model, (2,), tmp_path / "m.onnx")).logits(images)
    assert first.tolist() == [[1.0, 2.0]] and second.tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: jnp.sort(x.mean((1, 2))),
            "'sort' has no counterpart.*write the network without",
        ),
        (lambda x: x.astype(jnp.bfloat16), "'convert_element_type' yields bfloat16"),
        (lambda x: x - x.mean(0), "'reduce_sum' sums over the images of a batch.*evaluation mode"),
        (lambda x: jnp.ones((1, x.shape[0])) @ x[:, 0, 0], "sums over the images of a batch"),
        (lambda x: (x, jnp.ones(3)), "a result of the function does not depend on its input"),
        (lambda x: (x, x[:, 0, 0].argmax(-1)), "output 1 of the function is of int32"),
        (lambda x: jnp.ones(3), "does not depend on its input"),
        (
            lambda x: jax.lax.conv_general_dilated(
                x,
                jnp.asarray(CONV),
                (1, 1),
                [(4, 4)] * 2,
                (2, 2),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ),
            "transposed convolution with padding .* beyond its kernel",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(function, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_onnx(function, (4, 4, 3), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_several_outputs(tmp_path):
    """A hidden tensor that is read on, its activation, maps, and one of them twice."""
    kernel = jnp.asarray(CONV)

    def function(x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
        active = jax.nn.relu(maps)
        return {"a": active.mean((1, 2)), "b": [maps, active, x], "c": active}

    images = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype("f")
    expected = jax.tree.leaves(function(images))
    path = export_onnx(function, (4, 4, 3), tmp_path / "m.onnx", images=images)
    names = [each.name for each in onnx.load(path).graph.output]
    assert names == ["a", "b/0", "b/1", "b/2", "c"]
    in_a_row = np.concatenate([each.reshape(3, -1) for each in expected], 1)
    assert np.allclose(Session(path).logits(images), in_a_row, atol=1e-5)
    flat = export_litert(function, (4, 4, 3), tmp_path / "m.tflite", images=images)
    assert np.allclose(LiteRTSession(flat).logits(images), in_a_row, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (lambda a, b: (a, b), ["output_0", "output_1"]),
        (lambda a, b: {"relu_0": a, "images": b}, ["output_0", "output_1"]),
        (lambda a, b: OrderedDict(relu_0=b, boxes=a), ["relu_0", "boxes"]),
    ],
)
def test_outputs_have_the_names_of_their_dictionary(outputs, names):
    model = to_onnx(lambda x: outputs(jax.nn.relu(x), x.mean((1, 2))), (4, 4, 3))
    onnx.checker.check_model(model)
    assert [each.name for each in model.graph.output] == names


def test_training_mode_is_refused():
    source = from_nnx(resnet(8, "A", 3))
    with pytest.raises(ExportError, match="evaluation mode"):
        to_onnx(lambda x: source.apply(source.variables, x, True)[0], (8, 8, 3))


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(FileError, match="no file"):
        Session(tmp_path / "none.onnx")
    path = export_onnx(odd_mean, (6, 6, 3), tmp_path / "m.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(Path(path).read_bytes()[:200])
    with pytest.raises(FileError, match="export it again"):
        Session(damaged)


def test_logits_are_the_same_in_any_batches(tmp_path):
    session = Session(export_onnx(odd_mean, (6, 6, 3), tmp_path / "m.onnx"))
    images = np.random.default_rng(0).normal(0, 1, (5, 6, 6, 3))
    np.testing.assert_allclose(session.logits(images, batch=2), session.logits(images), rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"shape \(5, 6, 6\), the network expects \[any, 6, 6, 3\]"
    ):
        session.logits(images[..., 0])
