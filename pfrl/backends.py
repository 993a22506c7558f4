"""The runtimes that can judge a sliced network, by the names that a configuration has for them.

Each takes the same ONNX graph. A new one is ready in some ten milliseconds, for any
shapes, and nothing compiles for seconds as in XLA.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from pfrl.cpu import cores
from pfrl.deploy.onnx import to_onnx
from pfrl.deploy.openvino import compile_network
from pfrl.deploy.runtime import Session

AT_ONCE = 50
"""Images in one run of a runtime: with more, what lies between layers leaves the caches."""

Backend = Literal["xla", "onnx", "openvino", "openvino-bf16"]
SLICED: tuple[Backend, ...] = ("onnx", "openvino", "openvino-bf16")
"""Those that run the sliced network. XLA runs the masked one."""
TITLES: dict[str, str] = {
    "xla": "XLA",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino-bf16": "OpenVINO in bfloat16",
}

Judge = Callable[[Any], np.ndarray]
"""``images [N, H, W, C] -> outputs`` of one policy's network."""


def sliced_judge(
    backend: str, function: Callable[[Any], Any], input_shape: tuple[int, ...]
) -> Judge:
    """Of a network as a JAX function with its parameters closed over.

    Args:
      backend: one of ``SLICED``.
      function: ``images [N, *input_shape] -> outputs``.
      input_shape: shape of one image, ``(H, W, C)``.

    Raises:
      ExportError: if it has an operation that has no counterpart in ONNX.
      FileError: if the runtime cannot load the graph.
      Unavailable: if the runtime is not there, or this processor lacks what it takes.
    """
    model, threads = to_onnx(function, input_shape).SerializeToString(), len(cores())
    if backend == "onnx":
        session = Session(model, threads)
        return lambda images: session.logits(images, AT_ONCE)
    precision = "bf16" if backend == "openvino-bf16" else "f32"
    return compile_network(model, input_shape, AT_ONCE, threads, precision)
