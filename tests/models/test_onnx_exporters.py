"""What exporters write in ways of their own: tf2onnx, and PyTorch's newer one."""

import jax
import numpy as np
import pytest

import pfrl
from tests.models.test_onnx_operators import IMAGE, ints, normal, one, used
from tests.support.onnx_files import file_of


def test_a_normalisation_of_groups_that_is_spelled_out_leaves_channels_removable(tmp_path):
    """As PyTorch writes it: channels are made places of their group, which is normalised."""
    calls = {
        "conv": one("Conv", "x", "kernel"),
        "one_group": one("Reshape", "conv", "all"),
        "normal": one("InstanceNormalization", "one_group", "gain", "shift"),
        "size": one("Shape", "conv"),
        "back": one("Reshape", "normal", "size"),
        "scaled": one("Mul", "back", "channel"),
        "y": one("Conv", "scaled", "last"),
    }
    arrays = {"kernel": normal(6, 4, 3, 3), "last": normal(3, 6, 1, 1), "all": ints(0, 1, -1)}
    arrays |= {"gain": normal(1), "shift": np.zeros(1, np.float32), "channel": normal(6, 1, 1)}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, arrays)
    graph = pfrl.trace(pfrl.from_onnx(path, channels_last=True), normal(2, 6, 8, 4))
    assert [group.size for group in graph.groups.values()] == [6]


def test_standardised_kernels_and_the_zeros_they_share(tmp_path):
    """As PyTorch's newer exporter writes them: one array of zeros for all layers of a width."""
    calls = {}
    for number, (before, shape) in enumerate({"x": "3x3", "relu0": "1x1"}.items()):
        kernel = f"kernel{number}"
        calls |= {
            f"flat{number}": one("Reshape", kernel, "flat"),
            f"mean{number}": one("ReduceMean", f"flat{number}", "axes", keepdims=0),
            f"kept{number}": one("ReduceMean", f"flat{number}", "axes", keepdims=1),
            f"less{number}": one("Sub", f"flat{number}", f"kept{number}"),
            f"square{number}": one("Mul", f"less{number}", f"less{number}"),
            f"var{number}": one("ReduceMean", f"square{number}", "axes", keepdims=0),
            f"normal{number}": one(
                *("BatchNormalization", f"flat{number}", f"gain{number}", "zeros"),
                *(f"mean{number}", f"var{number}"),
            ),
            f"whole{number}": one("Reshape", f"normal{number}", shape),
            f"conv{number}": one("Conv", before, f"whole{number}"),
            f"relu{number}": one("Relu", f"conv{number}"),
        }
    calls["y"] = one("Conv", "relu1", "last")
    arrays = {"kernel0": normal(6, 4, 3, 3), "kernel1": normal(6, 6, 1, 1), "zeros": np.zeros(6)}
    arrays |= {"gain0": normal(6), "gain1": normal(6), "last": normal(3, 6, 1, 1)}
    arrays["zeros"] = arrays["zeros"].astype(np.float32)
    arrays |= {"flat": ints(1, 6, -1), "axes": ints(0, 2)}
    arrays |= {"3x3": ints(6, 4, 3, 3), "1x1": ints(6, 6, 1, 1)}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, arrays, 18)
    graph = pfrl.trace(pfrl.from_onnx(path, channels_last=True), normal(2, 6, 8, 4))
    assert [group.size for group in graph.groups.values()] == [6, 6]
    assert [layer.kind for layer in graph.layers] == ["conv", "conv", "conv"]


def test_an_image_network_of_keras_runs_channels_last(tmp_path):
    """As tf2onnx writes it: images come with channels last, and are turned before a convolution."""
    calls = {
        "turned": one("Transpose", "x", perm=[0, 3, 1, 2]),
        "conv": one(
            "Conv", "turned", "model/conv2d/Conv2D/ReadVariableOp:0", auto_pad="SAME_UPPER"
        ),
        "biased": one("Add", "conv", "bias"),
        "relu": one("Relu", "biased"),
        "pooled": one("GlobalAveragePool", "relu"),
        "flat": one("Squeeze", "pooled", "space"),
        "dense": one("MatMul", "flat", "model/dense/MatMul/ReadVariableOp:0"),
    }
    arrays = {
        "model/conv2d/Conv2D/ReadVariableOp:0": normal(6, 3, 3, 3),
        "bias": normal(1, 6, 1, 1),
        "space": ints(2, 3),
        "model/dense/MatMul/ReadVariableOp:0": normal(6, 5),
    }
    path = file_of(tmp_path / "n.onnx", calls, {"x": ["N", 8, 8, 3]}, arrays, 13)
    for last in (False, True):
        source = pfrl.from_onnx(path, channels_last=last)
        assert list(source.variables) == [
            "model.conv2d.kernel",
            "bias",
            "model.dense.kernel",
        ]
        graph = pfrl.trace(source, jax.ShapeDtypeStruct((2, 8, 8, 3), np.float32))
        assert [group.size for group in graph.groups.values()] == [6]
        program = graph.evaluation().program
        assert not [e for e in program.equations if e.name == "transpose"]


def test_inputs_that_no_node_reads_are_none_of_the_network(tmp_path):
    """tf2onnx lists constants that it has folded as inputs: EfficientNet of Keras has two."""
    calls = {"conv": one("Conv", "x", "kernel"), "y": one("GlobalAveragePool", "conv")}
    inputs = {"x": ["N", 3, 8, 8], "normalization/Sub/y:0": [1, 1, 1, 3]}
    path = file_of(tmp_path / "n.onnx", calls, inputs, {"kernel": normal(6, 3, 3, 3)}, 13)
    source = pfrl.from_onnx(path, channels_last=True)
    images = normal(2, 8, 8, 3)
    assert len(pfrl.trace(source, images).inputs) == 1
    assert source.apply(source.variables, images, False)[0].shape == (2, 1, 1, 6)


@pytest.mark.parametrize("examples", ["N", 1, 2])
@pytest.mark.parametrize("places", [range(4), [3, 1]])
def test_elements_of_flattened_examples_are_of_each_example(tmp_path, examples, places):
    """PyTorch's newer exporter writes ``as_strided`` so, and with it ConvNeXt's global pooling."""
    each_example = np.array(places)[:, None, None]
    calls = {
        "conv": one("Conv", "x", "kernel"),
        "mean": one("GlobalAveragePool", "conv"),
        "flat": one("Reshape", "mean", "all"),
        "number": one("Shape", end=1),
        "last": one("Squeeze", "number"),
        "rows": one("Range", "none", "last", "one"),
        "starts": one("Mul", "rows", "size"),
        "column": one("Unsqueeze", "starts", "axes"),
        "free": one("Add", "column", "places"),
        "y": one("Gather", "flat", "free" if examples == "N" else "fixed"),
    }
    if examples != "N":
        calls = {name: call for name, call in calls.items() if call[0] in KEPT_WHEN_FIXED}
    arrays = {
        "kernel": normal(4, 4, 3, 3),
        "all": ints(-1),
        "none": np.array(0),
        "one": np.array(1),
        "size": np.array(4),
        "axes": ints(1, 2, 3),
        "places": each_example,
        "fixed": np.stack(
            [each_example + 4 * i for i in range(1 if examples == "N" else examples)]
        ),
    }
    path = file_of(tmp_path / "n.onnx", calls, {"x": [examples, 4, 6, 8]}, used(arrays, calls))
    source = pfrl.from_onnx(path, channels_last=True)
    images = normal(3, 6, 8, 4)
    found = source.apply(source.variables, images, False)[0]
    assert found.shape == (3, 1, 1, len(places))
    jaxpr = str(jax.make_jaxpr(source.apply, static_argnums=2)(source.variables, images, False))
    assert "gather" not in jaxpr or list(places) != list(range(4))


KEPT_WHEN_FIXED = {"Conv", "GlobalAveragePool", "Reshape", "Gather"}


def test_places_that_count_the_examples_are_places_within_each(tmp_path):
    """PyTorch's newer exporter writes the masks and the token types of transformers so."""
    calls = {
        "number": one("Shape", end=1),
        "last": one("Squeeze", "number"),
        "rows": one("Range", "none", "last", "step"),
        "column": one("Unsqueeze", "rows", "inner"),
        "grid": one("Max", "column", "keys"),
        "size": one("Shape", "grid"),
        "example": one("Expand", "column", "size"),
        "key": one("Expand", "keys", "size"),
        "example1": one("Unsqueeze", "example", "end"),
        "key1": one("Unsqueeze", "key", "end"),
        "places": one("Concat", "example1", "key1", axis=-1),
        "mask": one("GatherND", "x", "places"),
        "kinds": one("GatherElements", "longer", "shorter", axis=1),
        "length": one("Shape", "x"),
        "kind": one("Expand", "kinds", "length"),
        "embedded": one("Gather", "table", "kind"),
    }
    arrays = {
        **{"none": np.array(0), "step": np.array(1), "inner": ints(1, 2), "end": ints(-1)},
        "keys": np.arange(5).reshape(1, 1, 5),
        "longer": ints(1, 0, 1, 0, 0, 1, 1).reshape(1, 7),
        "shorter": ints(0, 1, 2, 3, 4).reshape(1, 5),
        "table": normal(2, 3),
    }
    path = file_of(tmp_path / "n.onnx", calls, {"x": ["N", 5]}, arrays, 18, ["mask", "embedded"])
    source = pfrl.from_onnx(path)
    found = source.apply(source.variables, normal(3, 5), False)[0]
    assert {name: value.shape for name, value in found.items()} == {
        "mask": (3, 1, 5),
        "embedded": (3, 5, 3),
    }


def test_an_array_of_equal_numbers_that_a_node_reads_twice(tmp_path):
    calls = {
        "first": one("Add", "x", "halves"),
        "second": one("Where", "yes", "halves", "halves"),
        "y": one("Mul", "first", "second"),
    }
    arrays = {"halves": np.full(8, 0.5, np.float32), "yes": np.ones(8, bool)}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, arrays)
    assert len(pfrl.from_onnx(path).variables) == 2
