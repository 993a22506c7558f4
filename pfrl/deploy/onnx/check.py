"""Whether an ONNX file computes what the network does, in ONNX Runtime."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from pfrl.deploy.onnx.emit import to_model
from pfrl.deploy.onnx.integers import to_integer_model, with_pairs
from pfrl.deploy.onnx.saturation import saturates
from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.quantized import Quantization
from pfrl.deploy.reference.check import Check, DifferenceError
from pfrl.deploy.runtimes.base import in_a_row


def checked(
    model: onnx.ModelProto,
    graph: OperatorGraph,
    quantization: Quantization,
    function: Callable[[Any], Any],
    images: np.ndarray,
) -> onnx.ModelProto:
    """The model, if ONNX Runtime computes with it what JAX does.

    An integer model that this processor computes wrongly, because it sums up products of int8 in
    16 bits, is replaced by the one with uint8 kernels, which every processor computes right.

    Args:
      model: of ``graph`` and ``quantization``.
      function: the network in JAX, rounded as it is simulated.
      images: real ones ``[N, *input_shape]``.

    Raises:
      DifferenceError: if it does not; the message names the first operation that differs.
    """
    check = Check("ONNX Runtime", graph, quantization, function, images)
    wrong = _wrong(check, model, graph, quantization, images, portable=False)
    if wrong is not None and quantization.sites:
        model = to_integer_model(graph, quantization, portable=True)
        wrong = _wrong(check, model, graph, quantization, images, portable=True)
    if wrong is not None:
        raise wrong
    return model


def _wrong(
    check: Check,
    model: onnx.ModelProto,
    graph: OperatorGraph,
    quantization: Quantization,
    images: np.ndarray,
    portable: bool,
) -> DifferenceError | None:
    found = in_a_row(outputs(model, images))
    if check.passes(found):
        return None

    def values(tensors: Collection[str]) -> dict[str, np.ndarray]:
        return _values(graph, quantization, tensors, check.few, portable)

    wrong = check.difference(found, values)
    if wrong is None and quantization.sites and not portable and saturates():
        # A little is cut off in many places, and no operation is far off by itself.
        return DifferenceError("ONNX Runtime cuts off sums of integers on this processor")
    return wrong


def outputs(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """Everything that a model puts out, as ONNX Runtime computes it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Sequence[Any] = session.run(None, {session.get_inputs()[0].name: images})
    return [np.asarray(each) for each in found]


def _values(
    graph: OperatorGraph,
    quantization: Quantization,
    tensors: Collection[str],
    images: np.ndarray,
    portable: bool,
) -> dict[str, np.ndarray]:
    """By tensor the numbers that ONNX Runtime computes."""
    paired, renamed = with_pairs(graph, quantization, portable)
    made = {node.output for node in paired.nodes} - {*paired.outputs}
    names = {tensor: name for tensor in tensors if (name := renamed.get(tensor, tensor)) in made}
    found = outputs(to_model(paired, list(names.values())), images)[len(paired.outputs) :]
    return dict(zip(names, found, strict=True))
