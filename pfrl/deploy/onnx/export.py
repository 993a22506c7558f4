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

from pfrl.deploy.onnx.emit import to_model
from pfrl.deploy.operators.build import build
from pfrl.deploy.operators.program import ExportError
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
    return to_model(build(function, input_shape))
