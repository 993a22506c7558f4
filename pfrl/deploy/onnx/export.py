"""A network, given as a JAX function, as an ONNX file; with integers where it is quantized.

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
import numpy as np
import onnx
from onnx import helper

from pfrl.compression.sliced import Compressed
from pfrl.deploy.onnx.check import checked
from pfrl.deploy.onnx.integers import to_integer_model
from pfrl.deploy.operators.build import build
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.operators.quantized import Quantization, build_quantized
from pfrl.files import write_whole

__all__ = ["ExportError", "export_onnx", "to_onnx"]


def export_onnx(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    path: Path | str,
    metadata: Mapping[str, str] = MappingProxyType({}),
    images: np.ndarray | None = None,
) -> Path:
    """Writes ``function`` as an ONNX model to ``path``; returns the path.

    A network whose policy rounds activations becomes a file that computes with integers: layers
    of at most 8 bits as int8, those of 32 bits in float32. Kernels of at most 8 bits take a byte a
    weight even where they compute with floats.

    Args:
      function: ``function(images) -> logits`` with its parameters closed over,
        in evaluation mode; ``images`` is float32 ``[N, *input_shape]``. What ``pfrl.compress``
        makes is one.
      input_shape: shape of one image, ``(H, W, C)``.
      path: the file; it appears when it is whole.
      metadata: strings that the file carries along.
      images: real ones, ``[N, *input_shape]``, on which ONNX Runtime has to answer as JAX does
        before the file is written; some tens will do.

    The model's input is ``images`` ``[N, *input_shape]`` with any ``N``, its
    output ``logits``; several have the names of their dictionary, or are ``output_0``,
    ``output_1`` and so on, in the order of ``jax.tree.leaves``.

    Raises:
      ExportError: if an operation of the function has no counterpart here.
      DifferenceError: if ONNX Runtime computes something else; it names the first operation.
      FileError: if the file cannot be written.
    """
    model = to_onnx(function, input_shape, images)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return write_whole(Path(path), lambda stream: stream.write(model.SerializeToString()))


def to_onnx(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    images: np.ndarray | None = None,
) -> onnx.ModelProto:
    """The model that ``export_onnx`` writes, without metadata."""
    if isinstance(function, Compressed) and function.quantized:
        graph, quantization = build_quantized(function, input_shape)
    else:
        graph, quantization = build(function, input_shape), Quantization({}, {})
    model = to_integer_model(graph, quantization)
    if images is None:
        return model
    return checked(model, graph, quantization, lambda x: function(x), images)
