"""The runtimes that can judge a sliced network, by the names that a configuration has for them.

Each takes the same ONNX graph. A new one is ready in some ten milliseconds, for any
shapes, and nothing compiles for seconds as in XLA.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pfrl.cpu import cores
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.deploy.runtimes.openvino import compile_network
from pfrl.evaluation.config import Backend
from pfrl.tasks import Classification, Task
from pfrl.training.backend import callers

AT_ONCE = 50
"""Images in one run of a runtime: with more, what lies between layers leaves the caches."""
CLOSE = 0.03
"""Two outputs that differ by less, in standard deviations of all outputs, may change their order
when products are rounded to bfloat16. Of the answers of 12 pruned ResNet-20 to 5,000 images, 417
were others than in float32, and 18 with close ones judged again; of 60, no accuracy differs by more
than 0.1 points."""

SLICED: tuple[Backend, ...] = ("onnx", "openvino", "openvino-bf16")
"""Those that run the sliced network. XLA runs the masked one."""
TITLES: dict[str, str] = {
    "xla": "XLA",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino-bf16": "OpenVINO in bfloat16",
}

Judge = Callable[[Any], np.ndarray]
"""``images [N, H, W, C] -> outputs`` of one policy's network, for several threads at once."""


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
    model, at_once = to_onnx(function, input_shape).SerializeToString(), callers()
    threads = len(cores()) // at_once
    if backend == "onnx":
        session = Session(model, threads)
        return lambda images: session.logits(images, AT_ONCE)
    compiled = partial(compile_network, model, input_shape, AT_ONCE, threads, at_once)
    if backend == "openvino":
        return compiled()
    # One thread: more would go on looking for work, and take the cores from OpenVINO's.
    return _second_look(compiled("bf16"), Session(model).logits)


def suited(task: Task) -> tuple[Backend, ...]:
    """The backends for a task; bfloat16 where only the order of outputs counts, not their size."""
    return SLICED if isinstance(task, Classification) else ("onnx", "openvino")


def _second_look(rounded: Judge, exact: Judge) -> Judge:
    """Rounded outputs ``[N, K]``, but exact ones of images whose two best outputs are close."""

    def judge(images: Any) -> np.ndarray:
        outputs = rounded(images)
        if outputs.ndim != 2 or outputs.shape[1] < 2:  # no classes
            return outputs
        second, best = np.partition(outputs, -2, axis=1)[:, -2:].T
        close = np.flatnonzero(best - second < CLOSE * outputs.std())
        if len(close):
            outputs[close] = exact(np.asarray(images)[close])
        return outputs

    return judge
