"""A network, given as a JAX function, as a LiteRT file.

    path = export_litert(network, (28, 28, 1), Path("model.tflite"))

LiteRT has channels last, as the networks here do, so nothing is transposed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from pfrl.compression.sliced import Compressed
from pfrl.deploy.litert import kernels, movement, pointwise  # noqa: F401  (they register emitters)
from pfrl.deploy.litert.check import check
from pfrl.deploy.litert.emit import emit
from pfrl.deploy.operators.build import build
from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.quantized import Quantization, build_quantized
from pfrl.files import write_whole


def export_litert(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    path: Path | str,
    metadata: Mapping[str, str] = MappingProxyType({}),
    images: np.ndarray | None = None,
) -> Path:
    """Writes ``function`` as a LiteRT model to ``path``; returns the path.

    Args:
      function: ``function(images) -> logits`` with its parameters closed over,
        in evaluation mode; ``images`` is float32 ``[N, *input_shape]``. What ``pfrl.compress``
        makes is written with int8 where its policy rounds to at most 8 bits, else in float32.
      input_shape: shape of one image, ``(H, W, C)``.
      path: the file; it appears when it is whole.
      metadata: strings that the file carries along.
      images: real ones, ``[N, *input_shape]``, on which LiteRT has to answer as JAX does before
        the file is written; some tens will do.

    The model's input is ``images`` ``[1, *input_shape]``, which the runtime can resize to any
    number of images, its output ``logits``; several are called as by ``export_onnx``.

    Raises:
      ExportError: if an operation of the function has no counterpart here.
      DifferenceError: if LiteRT computes something else; it names the first operation.
      FileError: if the file cannot be written.
      Unavailable: if LiteRT is not installed.
    """
    content = to_litert(function, input_shape, metadata, images)
    return write_whole(Path(path), lambda stream: stream.write(content))


def to_litert(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    metadata: Mapping[str, str] = MappingProxyType({}),
    images: np.ndarray | None = None,
) -> bytes:
    """The bytes of the file that ``export_litert`` writes."""
    graph, quantization = graph_of(function, input_shape)
    content = emit(graph.copy(), metadata, quantization).content
    if images is not None:
        check(content, graph, quantization, lambda x: function(x), images)
    return content


def graph_of(
    function: Callable[[jax.Array], Any], input_shape: Sequence[int]
) -> tuple[OperatorGraph, Quantization]:
    """What ``emit`` writes: the graph of a network, channels last, and its grids."""
    if isinstance(function, Compressed) and function.quantized:
        return build_quantized(function, input_shape, "last")
    return build(function, input_shape, "last"), Quantization({}, {})
