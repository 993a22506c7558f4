"""LiteRT files with integers: tensor by tensor what the reference in NumPy computes."""

from collections import Counter

import jax
import numpy as np
import pytest

from benchmarks.files.parity import steps_apart
from envs.task import load_network
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress
from pfrl.deploy.litert.export import export_litert, to_litert
from pfrl.deploy.litert.flatbuffer import schema
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.operators.quantized import build_quantized
from pfrl.deploy.reference.check import DifferenceError
from pfrl.deploy.reference.operators import OPERATORS
from pfrl.deploy.reference.run import Reference
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.graph.labelled.program import BATCH
from pfrl.models.catalogue import pretrained_path
from tests.support.integers import quantized

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}


def typed_operators(content: bytes) -> Counter:
    """How many operators of a kind there are, by the type of their results: (name, type)."""
    words = schema()

    def names(enumeration):
        return {number: name for name, number in vars(enumeration).items() if name.isupper()}

    operators, types = names(words.BuiltinOperator), names(words.TensorType)
    model = words.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    codes = [operators[code.builtinCode] for code in model.operatorCodes]
    return Counter(
        (codes[each.opcodeIndex], types[graph.tensors[each.outputs[0]].type])
        for each in graph.operators
    )


def reference_of(small, shape) -> Reference:
    return Reference(*build_quantized(small, shape, "last"), litert=True)


def assert_same(small, images) -> None:
    """Code by code what the reference computes: sums are scaled by the same integers. What is
    float in between (a gate, a mean over channels) may fall to the other side of two steps."""
    content, reference = to_litert(small, images.shape[1:]), reference_of(small, images.shape[1:])
    steps = steps_apart(content, reference, images)
    assert len(steps.shares) > 5 and min(steps.shares.values()) >= 0.999 and steps.same >= 0.999
    outputs, expected = LiteRTSession(content).logits(images), reference(images)
    assert np.abs(outputs - expected).mean() <= 0.002 * expected.std()
    assert (outputs.argmax(-1) == expected.argmax(-1)).mean() >= 0.995


SLOWER = [pytest.param(name, marks=pytest.mark.ci) for name in ("shufflenet_v2", "mixer")]


@pytest.mark.parametrize(
    "name", ["resnet20", "mobilenet_v2", "efficientnet_lite0", "unet", "vit_tiny", *SLOWER]
)
def test_every_tensor_is_the_reference_s(name):
    small, images = quantized(name)
    assert_same(small, images)
    found = typed_operators(to_litert(small, images.shape[1:]))
    assert {kind for op, kind in found if op in CONVOLUTIONS} == {"INT8"}
    if name not in ("vit_tiny", "mixer"):
        assert not {"MUL", "ADD"} & {op for op, kind in found if kind == "FLOAT32"}


def test_a_trained_network_s_files_tell_its_classes():
    dataset, graph = load_network("resnet8", "digits", str(pretrained_path("resnet8", "digits")))
    recipe = Recipe(images=128)
    seen = gather_from(graph, recipe, dataset, 0, True)
    policy = Policy.uniform(graph, 1.0, 8, 8)
    small = compress(graph.source, policy, graph=graph, statistics=seen)
    images = np.concatenate([x for x, _ in dataset.batches(dataset.search, 120)])
    assert_same(small, images[:32])
    reference = reference_of(small, graph.input_shape)(images)
    runs = {
        "simulated": np.asarray(jax.jit(small)(images)),
        "onnx": Session(to_onnx(small, graph.input_shape).SerializeToString()).logits(images),
        "litert": LiteRTSession(to_litert(small, graph.input_shape)).logits(images),
    }
    alike = {kind: (x.argmax(-1) == reference.argmax(-1)).mean() for kind, x in runs.items()}
    assert min(alike.values()) >= 0.995, alike


def test_an_integer_file_is_smaller():
    small, images = quantized("mobilenet_v2")
    shape = images.shape[1:]
    whole = len(to_litert(lambda x: small(x), shape))
    # Of these few weights a third of the file is names, scales and sizes.
    assert len(to_litert(small, shape)) < 0.56 * whole


def test_layers_of_32_bits_stay_float_with_borders_only():
    small, images = quantized("resnet20")
    graph, policy = small.graph, small.policy
    conv = "layer2.0.conv1"
    mixed = Policy(policy.keep, {**policy.weight_bits, conv: 32}, {**policy.act_bits, conv: 32})
    small = compress(graph.source, mixed, graph=graph, ranges=small.ranges)
    content = to_litert(small, images.shape[1:])
    found = typed_operators(content)
    assert found["CONV_2D", "FLOAT32"] >= 1 and found["CONV_2D", "INT8"] >= 10
    assert_same(small, images)


def test_fewer_bits_are_fewer_codes():
    small, images = quantized("lenet5", act_bits=4, weight_bits=3)
    assert_same(small, images)
    codes = reference_of(small, images.shape[1:]).codes(images)
    assert max(int(each.max()) for each in codes.values()) == 15


def test_a_file_is_checked_before_it_is_there(tmp_path, monkeypatch):
    """Here it is the reference that is wrong."""
    small, images = quantized("resnet20")
    path = export_litert(small, images.shape[1:], tmp_path / "right.tflite", images=images)
    assert len(LiteRTSession(path).logits(images)) == len(images)
    right = OPERATORS["Conv"]
    wrong = dict(OPERATORS) | {"Conv": lambda *given: right(*given) * 2 + 1}
    monkeypatch.setattr("pfrl.deploy.reference.run.OPERATORS", wrong)
    with pytest.raises(DifferenceError, match=r"^LiteRT computes .* is Conv of layer 'conv1'"):
        export_litert(small, images.shape[1:], tmp_path / "wrong.tflite", images=images)
    assert [each.name for each in tmp_path.iterdir()] == ["right.tflite"]


def test_a_file_of_floats_is_checked_too(tmp_path):
    small, images = quantized("lenet5", weight_bits=32, act_bits=32)

    def lies(x):
        """Its outputs are others wherever they are not exported."""
        logits = small.apply(small.variables, x, False)[0]
        return logits if x.shape[0] == BATCH else 2 * logits

    with pytest.raises(DifferenceError, match=r"^LiteRT "):
        export_litert(lies, images.shape[1:], tmp_path / "m.tflite", images=images)
    assert not list(tmp_path.iterdir())
