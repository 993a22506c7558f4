"""Running ONNX files in ONNX Runtime on the CPU."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from pfrl.deploy.runtimes.base import (
    FIXED_INPUTS,
    Axes,
    FileRuntime,
    LayerChannels,
    Place,
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

ALIGNMENT = 4
"""Input channels of the fast convolutions come in multiples of this, once they fill a block."""
FINE = 32
"""Input channels up to which layers of integers are measured at every multiple of 4."""


class Session:
    """A network in ONNX Runtime, ready to run; all graph optimisations on, errors logged only.

    Args:
      model: path of an ``.onnx`` file, or the bytes of one.
      threads: threads inside an operation; operations run one after the other.
      profile: beginning of the path of a file for the times of operations; see
        ``end_profiling``.

    Raises:
      FileError: if the file is missing or no network that the runtime can load.
    """

    runtime = "onnxruntime"
    version: str = onnxruntime.__version__

    def __init__(self, model: Path | str | bytes, threads: int = 1, profile: Path | None = None):
        options = onnxruntime.SessionOptions()
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        check_there(model)
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions share no base class but Exception
            what = "the model" if isinstance(model, bytes) else model
            raise FileError(
                f"{what} is no network that ONNX Runtime {self.version} can load "
                f"({first_line(error)}); export it again"
            ) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise FileError(f"{model} has {len(inputs)} inputs, expected one of float32 images")
        self.threads = threads
        self.input_name: str = inputs[0].name
        self.input_shape: tuple[int | None, ...] = tuple(
            size if isinstance(size, int) else None for size in inputs[0].shape
        )
        """``None`` stands for any size."""
        self._output_names: list[str] = [each.name for each in self._session.get_outputs()]

    def logits(self, images: np.ndarray, batch: int = 250) -> np.ndarray:
        """The network's output ``[N, K]`` for ``images`` ``[N, H, W, C]``, run ``batch`` at a time;
        several in a row.

        Raises:
          ValueError: if the images' shape is not the network's, or there are none.
        """
        images = np.ascontiguousarray(images, np.float32)
        check_images(images, self.input_shape)
        pieces = [images[start : start + batch] for start in range(0, len(images), batch)]
        found = (self._session.run(None, {self.input_name: piece}) for piece in pieces)
        return np.concatenate([in_a_row(list(map(np.asarray, outputs))) for outputs in found])

    def bound(self, images: np.ndarray) -> Callable[[], None]:
        """A function that runs the network on ``images`` and does nothing else, for measuring."""
        images = np.ascontiguousarray(images, np.float32)
        check_images(images, self.input_shape)
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.input_name, images)
        for name in self._output_names:
            binding.bind_output(name, "cpu")
        run = self._session.run_with_iobinding
        return lambda: run(binding)

    def random_images(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """``batch`` images of noise of the network's shape; sizes that are free become 1."""
        shape = [size or 1 for size in self.input_shape[1:]]
        return rng.random((self.input_shape[0] or batch, *shape), np.float32)

    def end_profiling(self) -> Path:
        """Writes the times of all operations so far, as Chrome's tracing format has them."""
        return Path(self._session.end_profiling())


class ONNXRuntime(FileRuntime):
    """A session is ready in some milliseconds, for any shapes.

    Its fast convolution kernels compute output channels in whole blocks, and are left for slow
    ones where the input channels fill a block and are no multiple of 4. Kernels of integers copy
    the input channels of every position, 16 of them faster than 12: there the grid of small input
    counts is fine.
    """

    title = "ONNX Runtime"
    suffix = ".onnx"
    channels = "first"

    def version(self) -> str:
        return onnxruntime.__version__

    def opened(self, network: Path | str | bytes, threads: int = 1) -> Session:
        return Session(network, threads)

    def written(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> bytes:
        from pfrl.deploy.onnx.export import to_onnx

        return to_onnx(function, input_shape).SerializeToString()

    def emitted(self, graph: "OperatorGraph", quantization: "Quantization") -> bytes:
        from pfrl.deploy.onnx.integers import to_integer_model

        return to_integer_model(graph, quantization).SerializeToString()

    def block(self) -> int:
        from pfrl.cpu.processor import instruction_set

        return 16 if {"avx512f", "neon"} & set(instruction_set().split()) else 8

    def grids(self, layer: LayerChannels, points: Sequence[float], integers: bool) -> list[Axes]:
        kind, groups, c_in, c_out = layer
        block = self.block()
        whole = math.lcm(ALIGNMENT, groups if kind == "conv" else 1)
        step = math.lcm(block, whole)
        outs = up_to(c_out, {rounded_up(math.ceil(p * c_out), step) for p in points} | {step})
        ins = up_to(c_in, {max(whole, round(p * c_in / whole) * whole) for p in points})
        if kind == "depthwise":
            aligned = c_out // ALIGNMENT * ALIGNMENT or c_out
            ragged = {block // 2 + 1, c_out // 2 | 1, (c_out - 1) | 1}
            slow = tuple(sorted(c for c in ragged if c <= c_out))
            return [((c_in,), up_to(aligned, outs)), ((c_in,), slow)]
        if c_in <= FIXED_INPUTS:
            return [((c_in,), outs)]
        if integers and kind == "conv":
            fine = range(whole, min(c_in, FINE) + 1, whole)
            return [(up_to(c_in, {*fine, *ins}), outs)]
        if kind == "dense" or groups > 1 or c_in <= block:
            return [(ins, outs)]
        fast = tuple(c for c in ins if _is_fast(kind, c, block))
        slow = up_to(c_in, {block + 1, (block + c_in) // 2 | 1, (c_in - 1) | 1})
        return [(fast, outs), (slow, (outs[0], outs[-1]) if len(outs) > 1 else outs)]

    def place(self, kind: str, c_in: int, c_out: int, block: int, uneven: bool) -> Place:
        if uneven and not _is_fast(kind, c_in, block):
            return Place(True, c_in, c_out)
        return Place(False, c_in, rounded_up(c_out, block))


def _is_fast(kind: str, c_in: int, block: int) -> bool:
    """Whether blocked kernels (the runtime's nchwc_transformer) take ``c_in`` channels."""
    return kind == "dense" or c_in % ALIGNMENT == 0 or (kind == "conv" and c_in < block)


class Integers(ONNXRuntime):
    """The same of rounded networks, which are written with integers."""

    title = "ONNX Runtime with integers"
    integers = True


register("runtime", "onnx", ONNXRuntime())
register("runtime", "onnx-int8", Integers())
