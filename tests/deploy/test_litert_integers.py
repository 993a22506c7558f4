"""LiteRT files with integers: tensor by tensor what the reference in NumPy computes."""

from collections import Counter

import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.deploy.litert.export import export_litert, to_litert
from pfrl.deploy.litert.flatbuffer import schema
from pfrl.deploy.operators.quantized import build_quantized
from pfrl.deploy.reference.check import DifferenceError
from pfrl.deploy.reference.operators import OPERATORS
from pfrl.deploy.reference.run import Reference
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.graph.labelled.program import BATCH
from tests.support.integers import int8_tensors, quantized

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


def by_step(content: bytes, reference: Reference, images: np.ndarray) -> dict[str, float]:
    """By tensor the share of codes that are at most one off the reference's."""
    theirs = int8_tensors(content, images)
    shares = {}
    for name, codes in reference.codes(images).items():
        found = theirs.get(f"{name}.int8", theirs.get(name))
        if found is not None and found.shape == codes.shape:
            shares[name] = float((np.abs(found.astype(int) - codes) <= 1).mean())
    return shares


@pytest.mark.parametrize(
    "name", ["resnet20", "mobilenet_v2", "efficientnet_lite0", "unet", "shufflenet_v2"]
)
def test_every_tensor_is_the_reference_s_to_a_step(name):
    small, images = quantized(name)
    content = to_litert(small, images.shape[1:])
    reference = Reference(*build_quantized(small, images.shape[1:], "last"))
    shares = by_step(content, reference, images)
    assert len(shares) > 10 and min(shares.values()) >= 0.999, shares
    outputs, expected = LiteRTSession(content).logits(images), reference(images)
    np.testing.assert_allclose(outputs, expected, atol=0.02 * expected.std())
    found = typed_operators(content)
    assert {kind for op, kind in found if op in CONVOLUTIONS} == {"INT8"}
    assert not {"MUL", "ADD"} & {op for op, kind in found if kind == "FLOAT32"}


def test_an_integer_file_is_smaller():
    small, images = quantized("mobilenet_v2")
    shape = images.shape[1:]
    whole = len(to_litert(lambda x: small(x), shape))
    # Of these few weights a third of the file is names, scales and sizes.
    assert len(to_litert(small, shape)) < 0.55 * whole


def test_layers_of_32_bits_stay_float_with_borders_only():
    small, images = quantized("resnet20")
    graph, policy = small.graph, small.policy
    conv = "layer2.0.conv1"
    mixed = Policy(policy.keep, {**policy.weight_bits, conv: 32}, {**policy.act_bits, conv: 32})
    small = compress(graph.source, mixed, graph=graph, ranges=small.ranges)
    content = to_litert(small, images.shape[1:])
    found = typed_operators(content)
    assert found["CONV_2D", "FLOAT32"] >= 1 and found["CONV_2D", "INT8"] >= 10
    reference = Reference(*build_quantized(small, images.shape[1:], "last"))
    outputs, expected = LiteRTSession(content).logits(images), reference(images)
    np.testing.assert_allclose(outputs, expected, atol=0.02 * expected.std())


def test_fewer_bits_are_fewer_codes():
    small, images = quantized("lenet5", act_bits=4, weight_bits=3)
    content = to_litert(small, images.shape[1:])
    reference = Reference(*build_quantized(small, images.shape[1:], "last"))
    shares = by_step(content, reference, images)
    assert min(shares.values()) >= 0.99  # of some hundred values
    codes = reference.codes(images)
    assert max(int(each.max()) for each in codes.values()) == 15
    outputs, expected = LiteRTSession(content).logits(images), reference(images)
    # Where one code is another, that is a fifteenth of all there are.
    assert (np.abs(outputs - expected) < 0.02 * expected.std()).mean() > 0.9


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
