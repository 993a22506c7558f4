"""A network, given as a JAX function, as an ONNX file in float32.

    path = export_onnx(network, (28, 28, 1), Path("model.onnx"))

The latency of a compressed network is measured on this file, so the graph is
as lean as one written by hand: one Transpose at the input at most,
normalisations and biases inside the convolutions, one Relu or Clip for an
activation, GlobalAveragePool for the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import onnx
from onnx import helper

from pfrl.deploy.onnx import contract, layout  # noqa: F401  (they register their lowerings)
from pfrl.deploy.onnx.fuse import fuse
from pfrl.deploy.onnx.graph import OnnxGraph, Tensor, to_model
from pfrl.deploy.onnx.ops import Value, lower
from pfrl.deploy.onnx.program import Computed, ExportError, Operations, operations_of
from pfrl.files import write_whole

__all__ = ["ExportError", "export_onnx", "to_onnx"]


def export_onnx(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    path: Path | str,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Writes ``function`` as an ONNX model to ``path``; returns the path.

    Args:
      function: ``function(images) -> logits`` with its parameters closed over,
        in evaluation mode; ``images`` is float32 ``[N, *input_shape]``.
      input_shape: shape of one image, ``(H, W, C)``.
      path: the file; it appears when it is whole.
      metadata: strings that the file carries along.

    The model's input is ``images`` ``[N, *input_shape]`` with any ``N``, its
    output ``logits``.

    Raises:
      ExportError: if an operation of the function has no counterpart here.
      FileError: if the file cannot be written.
    """
    model = to_onnx(function, input_shape)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return write_whole(Path(path), lambda stream: stream.write(model.SerializeToString()))


def to_onnx(function: Callable[[jax.Array], Any], input_shape: Sequence[int]) -> onnx.ModelProto:
    """The model that ``export_onnx`` writes, without metadata."""
    operations = operations_of(function, input_shape)
    graph = OnnxGraph()
    source, output = _build(graph, operations)
    return to_model(fuse(graph, output), source, output)


def _build(graph: OnnxGraph, operations: Operations) -> tuple[str, str]:
    """Lowers all operations; returns the names of the graph's input and output."""
    shape = operations.input.shape
    graph.shapes["images"] = shape
    images = Tensor("images", shape, tuple(range(len(shape))))
    values: dict[int, Value] = {
        operations.input.index: graph.relay(images, _first_layout(operations))
    }
    for operation in operations.steps:
        inputs = [
            values[value.index] if isinstance(value, Computed) else value
            for value in operation.inputs
        ]
        results = lower(graph, operation, inputs)
        for computed, result in zip(operation.outputs, results, strict=True):
            values[computed.index] = result
    output = values[operations.output.index]
    assert isinstance(output, Tensor)  # a constant result is refused when tracing
    output = graph.relay(output, range(len(output.shape))).name
    if output == "images":
        output = graph.node("Identity", ["images"], shape)
    return "images", output


def _first_layout(operations: Operations) -> Sequence[int]:
    """What the first convolution wants: moved before all else, the images are moved only once."""
    rank = len(operations.input.shape)
    for operation in operations.steps:
        if operation.primitive == "conv_general_dilated" and len(operation.inputs[0].shape) == rank:
            return operation.params["dimension_numbers"].lhs_spec
    return range(rank)
