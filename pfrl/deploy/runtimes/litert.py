"""Running LiteRT files (``.tflite``) on the CPU, by the kernels of XNNPACK."""

import math
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pfrl.deploy.runtimes.base import (
    AT_ONCE,
    FIXED_INPUTS,
    Axes,
    FileRuntime,
    LayerChannels,
    Place,
    Unavailable,
    check_images,
    check_there,
    first_line,
    in_a_row,
    rounded_up,
    up_to,
)
from pfrl.files import FileError
from pfrl.registry import register

if TYPE_CHECKING:  # a session alone needs no JAX
    from pfrl.deploy.operators.graph import OperatorGraph
    from pfrl.deploy.operators.quantized import Quantization


class LiteRTSession:
    """A network in LiteRT, ready to run, with any number of images at once.

    A file holds sizes for one image; the interpreter is resized to the images that it gets.
    Every thread that calls has an interpreter of its own.

    Args:
      model: path of a ``.tflite`` file, or the bytes of one.
      threads: threads inside an operation.

    Raises:
      Unavailable: if LiteRT is not installed.
      FileError: if the file is missing or no network that the runtime can load.
    """

    runtime = "litert"

    def __init__(self, model: Path | str | bytes, threads: int = 1):
        self._interpreter_class = _interpreter_class()
        self.version = version("ai-edge-litert")
        self.threads = threads
        self._name = "the model" if isinstance(model, bytes) else str(model)
        check_there(model)
        self._content = model if isinstance(model, bytes) else Path(model).read_bytes()
        self._own = threading.local()
        interpreter = self._loaded()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or inputs[0]["dtype"] is not np.float32 or not len(inputs[0]["shape"]):
            raise FileError(
                f"{self._name} has {len(inputs)} inputs, expected one of float32 images"
            )
        if not outputs:
            raise FileError(f"{self._name} has no outputs; export it again")
        self._input, self._outputs = inputs[0]["index"], [each["index"] for each in outputs]
        self.input_shape: tuple[int | None, ...] = (
            None,
            *(int(size) if size > 0 else None for size in inputs[0]["shape_signature"][1:]),
        )
        """``None`` stands for any size."""

    def logits(self, images: np.ndarray, batch: int = AT_ONCE) -> np.ndarray:
        """The network's output ``[N, K]`` for ``images`` ``[N, H, W, C]``, run ``batch`` at a time;
        several in a row.

        Raises:
          ValueError: if the images' shape is not the network's, or there are none.
          FileError: if the network cannot be run on so many images at once.
        """
        images = np.ascontiguousarray(images, np.float32)
        check_images(images, self.input_shape)
        outputs = []
        for start in range(0, len(images), batch):
            interpreter = self._fitted(images[start : start + batch])
            interpreter.invoke()
            outputs.append(in_a_row([interpreter.get_tensor(n) for n in self._outputs]))
        return np.concatenate(outputs)

    def bound(self, images: np.ndarray) -> Callable[[], None]:
        """A function that runs the network on ``images`` and does nothing else, for measuring."""
        images = np.ascontiguousarray(images, np.float32)
        check_images(images, self.input_shape)
        return self._fitted(images).invoke

    def random_images(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """``batch`` images of noise of the network's shape; sizes that are free become 1."""
        return rng.random((batch, *(size or 1 for size in self.input_shape[1:])), np.float32)

    def _fitted(self, images: np.ndarray) -> Any:
        """This thread's interpreter, with ``images`` as its input."""
        if not hasattr(self._own, "interpreter"):
            self._own.interpreter, self._own.shape = self._loaded(), None
        interpreter = self._own.interpreter
        if self._own.shape != images.shape:
            self._own.shape = None
            try:
                interpreter.resize_tensor_input(self._input, images.shape)
                interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise FileError(
                    f"{self._name} cannot be run on {len(images)} images at once"
                    f" ({first_line(error)}); try one, or export it again"
                ) from error
            self._own.shape = images.shape
        interpreter.set_tensor(self._input, images)
        return interpreter

    def _loaded(self) -> Any:
        try:
            return self._interpreter_class(model_content=self._content, num_threads=self.threads)
        except (RuntimeError, ValueError) as error:
            raise FileError(
                f"{self._name} is no network that LiteRT {self.version} can load"
                f" ({first_line(error)}); export it again"
            ) from error


def installed() -> bool:
    """Whether LiteRT is there; nothing is imported."""
    return find_spec("ai_edge_litert") is not None


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise Unavailable("LiteRT is not installed; pip install 'pocketflow-rl[litert]'") from error
    return Interpreter


class LiteRT(FileRuntime):
    """An interpreter is ready in a millisecond, for any shapes.

    XNNPACK's kernels take any number of input channels, each as long as the others, and compute
    output channels in whole blocks; one that is not filled takes longer than a whole one.
    """

    title = "LiteRT"
    suffix = ".tflite"
    channels = "last"

    def version(self) -> str:
        _interpreter_class()
        return version("ai-edge-litert")

    def opened(self, network: Path | str | bytes, threads: int = 1) -> LiteRTSession:
        return LiteRTSession(network, threads)

    def written(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> bytes:
        from pfrl.deploy.litert.export import to_litert

        return to_litert(function, input_shape)

    def emitted(self, graph: "OperatorGraph", quantization: "Quantization") -> bytes:
        from pfrl.deploy.litert.export import emit

        return emit(graph, {}, quantization).content

    def block(self) -> int:
        from pfrl.cpu.processor import instruction_set

        # Seen with AVX-512; with AVX2 alone and on ARM not tried.
        return 16 if "avx2" in instruction_set().split() else 8

    def grids(self, layer: LayerChannels, points: Sequence[float], integers: bool) -> list[Axes]:
        kind, groups, c_in, c_out = layer
        block, whole = self.block(), groups if kind == "conv" else 1
        step = math.lcm(block, whole)
        filled = {rounded_up(math.ceil(p * c_out), step) for p in points} | {step}
        ins = (c_in,)
        if kind != "depthwise" and c_in > FIXED_INPUTS:
            ins = up_to(c_in, {max(whole, round(p * c_in / whole) * whole) for p in points})
        if whole > 1:
            return [(ins, up_to(c_out, filled))]
        return [(ins, up_to(c_out, filled)), (ins, up_to(c_out, {n - block // 2 for n in filled}))]

    def place(self, kind: str, c_in: int, c_out: int, block: int, uneven: bool) -> Place:
        whole = rounded_up(c_out, block)
        if uneven and c_out < whole:
            return Place(True, c_in, whole - block // 2)
        return Place(False, c_in, whole)


class Integers(LiteRT):
    """The same of rounded networks, which are written with integers."""

    title = "LiteRT with integers"
    integers = True


register("runtime", "litert", LiteRT())
register("runtime", "litert-int8", Integers())
