"""Running ONNX networks in OpenVINO on the CPU, in float32 or bfloat16.

A compiled network is ready in some forty milliseconds, for any shapes. Processors with
bfloat16 products (AVX-512 BF16, AMX) are faster in it: 1.7 times with a half of ResNet-20.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from pfrl.cpu import cores
from pfrl.cpu.backend import callers
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.runtimes.base import AT_ONCE, Runtime, Unavailable, first_line, in_a_row
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.files import FileError
from pfrl.registry import register
from pfrl.tasks import Classification, Task
from pfrl.tasks.agreement import Agreement
from pfrl.tasks.judging import Judge

Precision = Literal["f32", "bf16"]
CLOSE = 0.03
"""Two outputs that differ by less, in standard deviations of all outputs, may change their order
when products are rounded to bfloat16. Of the answers of 12 pruned ResNet-20 to 5,000 images, 417
were others than in float32, and 18 with close ones judged again; of 60, no accuracy differs by more
than 0.1 points."""


def compile_network(
    model: bytes,
    input_shape: Sequence[int],
    batch: int,
    threads: int,
    callers: int = 1,
    precision: Precision = "f32",
) -> Callable[[np.ndarray], np.ndarray]:
    """``images [N, *input_shape] -> outputs [N, K]`` of an ONNX network, several in a row.

    Args:
      model: the bytes of an ``.onnx`` file with one input.
      input_shape: shape of one image, ``(H, W, C)``.
      batch: images in one run; other numbers of them are run in batches of this size.
      threads: threads inside an operation.
      callers: threads that may call it at once.
      precision: of products and of what lies between layers; inputs and outputs are float32.

    Raises:
      Unavailable: if OpenVINO is not installed, or the processor lacks such products.
      FileError: if OpenVINO cannot load the network.
    """
    core = _core()
    if precision not in precisions():
        raise Unavailable(
            f"this processor has no products of {precision} that OpenVINO knows;"
            " validate with openvino, onnx or auto"
        )
    try:
        network = core.read_model(model)
        network.reshape([batch, *input_shape])
        compiled = core.compile_model(
            network,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads * callers,
                "NUM_STREAMS": callers,
                # The processes of a pool have a core each already.
                "ENABLE_CPU_PINNING": False,
            },
        )
    except RuntimeError as error:
        why = first_line(error)
        raise FileError(f"the model is no network that OpenVINO can load ({why})") from error
    own = threading.local()

    def run(images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images, np.float32)
        whole = len(images) - len(images) % batch
        pieces = [images[start : start + batch] for start in range(0, whole, batch)]
        if whole < len(images):
            rest = np.zeros((batch, *images.shape[1:]), np.float32)
            rest[: len(images) - whole] = images[whole:]
            pieces.append(rest)
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        request, outputs = own.request, []
        for piece in pieces:
            request.infer({0: piece}, share_inputs=True)
            found = [tensor.data for tensor in request.output_tensors]
            outputs.append(in_a_row(found).copy())
        return np.concatenate(outputs)[: len(images)]

    return run


@cache
def precisions() -> tuple[Precision, ...]:
    """The precisions of products that this processor has instructions for, as OpenVINO knows it.

    Raises:
      Unavailable: if OpenVINO is not installed.
    """
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in capabilities else ("f32",)


@cache
def _core() -> Any:
    telemetry = "openvino_telemetry"
    absent = object()
    before: Any = sys.modules.get(telemetry, absent)
    # OpenVINO reports every import to its makers unless this package is missing; so it is.
    sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise Unavailable("OpenVINO is not installed; pip install openvino") from error
    finally:
        if before is absent:
            del sys.modules[telemetry]
        else:
            sys.modules[telemetry] = before
    return openvino.Core()


class OpenVINO(Runtime):
    """In float32."""

    title = "OpenVINO"

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        return _compiled(to_onnx(function, input_shape).SerializeToString(), input_shape, "f32")


class RoundedOpenVINO(Runtime):
    """With bfloat16 products; images whose two best classes are close are judged again."""

    title = "OpenVINO in bfloat16"

    def suits(self, task: Task) -> bool:
        """Where only the order of outputs counts, not their size."""
        return isinstance(task, Classification | Agreement)

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        model = to_onnx(function, input_shape).SerializeToString()
        # One thread: more would go on looking for work, and take the cores from OpenVINO's.
        return second_look(_compiled(model, input_shape, "bf16"), Session(model).logits)


def _compiled(model: bytes, input_shape: tuple[int, ...], precision: Precision) -> Judge:
    at_once = callers()
    threads = len(cores()) // at_once
    return compile_network(model, input_shape, AT_ONCE, threads, at_once, precision)


def second_look(rounded: Judge, exact: Judge) -> Judge:
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


register("runtime", "openvino", OpenVINO())
register("runtime", "openvino-bf16", RoundedOpenVINO())
