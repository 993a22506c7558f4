"""An operator graph as a LiteRT model: tensors and operators by the rules of its format.

``emit`` walks the graph; how each operation is said in LiteRT is in ``kernels`` (what has
weights, and pools), ``movement`` and ``pointwise``, a small function an operation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pfrl.deploy.litert.flatbuffer import FlatModel, Written
from pfrl.deploy.litert.flatbuffer import Quantization as Stored
from pfrl.deploy.litert.patterns import find_patterns
from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.operators.quantized import (
    CODES,
    OUTPUT_AXIS,
    Grid,
    Quantization,
    is_integer,
    settle,
)
from pfrl.graph.labelled.program import BATCH, depends_on_batch

OFFSET = 128
"""What LiteRT's codes, int8, are below those of the graph, uint8."""
INT32 = 2**31 - 1
ACTIVATIONS = {None: 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
"""LiteRT's numbers of what an operator applies to its result."""
_INTEGER_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    **dict.fromkeys(
        "ADD MUL MAX_POOL_2D AVERAGE_POOL_2D CONCATENATION PAD MEAN TRANSPOSE STRIDED_SLICE"
        " GATHER DEPTH_TO_SPACE REDUCE_MAX TILE".split(),
        2,
    ),
}
"""The versions of operators that first computed with int8."""

EMITTERS: dict[str, Callable[["Emitter", Node], None]] = {}
"""By the name of the graph's operation."""


def emits(*ops: str) -> Callable:
    """Registers a function as the emitter of operations of these names."""

    def register(function: Callable[["Emitter", Node], None]) -> Callable:
        EMITTERS.update(dict.fromkeys(ops, function))
        return function

    return register


def emit(
    graph: OperatorGraph,
    metadata: Mapping[str, str],
    quantization: Quantization | None = None,
) -> Written:
    """A graph with channels last as a ``.tflite`` file.

    Its input is ``images``, its output ``logits``, both float32; sizes are those of one image, and
    operators are such that the runtime can resize the input to any number of images.

    Tensors that are on a grid are int8, and operations between them compute with integers. What
    is on no grid stays float32, with QUANTIZE and DEQUANTIZE at its borders only.

    Args:
      graph: is changed.
      metadata: strings that the file carries along.
      quantization: the grids; None for a file in float32.

    Raises:
      ExportError: if LiteRT has no operator for something.
      Unavailable: if LiteRT is not installed.
    """
    quantization = quantization or Quantization({}, {})
    grids = settle(graph, quantization)
    emitter = Emitter(find_patterns(graph, grids), grids, quantization)
    for node in graph.nodes:
        if node.op not in EMITTERS:
            raise ExportError(
                f"the operation {node.op} has no counterpart in LiteRT; write the network without"
                " it, or add an emitter to pfrl/deploy/litert/"
            )
        emitter.begin(node)
        EMITTERS[node.op](emitter, node)
        emitter.end(node)
    return emitter.written(metadata)


class Emitter:
    """A model under construction, and the tensors that it has for those of the graph.

    A tensor of the graph that is on a grid is one of int8; one of float32 is made of it, or of the
    float32 that is quantized, where an operation asks for it.
    """

    def __init__(self, graph: OperatorGraph, grids: Mapping[str, Grid], quantization: Quantization):
        self.graph = graph
        self.grids = grids
        self.quantization = quantization
        self.model = FlatModel()
        self.integer = False
        """Whether the operation at hand computes with integers."""
        self._images = self._tensor("images", self.shape(graph.source))
        self._floats = {graph.source: self._images}
        self._codes: dict[tuple[str, Grid], int] = {}
        self._constants: dict[str, int] = {}
        self._clamped: tuple[int, int] | None = None
        if graph.source in grids:
            self._quantize(graph.source)

    def begin(self, node: Node) -> None:
        """``node`` is the operation at hand."""
        self.integer = node.output in self.grids and is_integer(
            self.graph, node, self.grids, self.quantization
        )
        self._clamped = None

    def end(self, node: Node) -> None:
        """What is left to do when the operator of ``node`` is there: clamp, or quantize."""
        if self._clamped is not None:
            self._clamp(*self._clamped, self.grids[node.output])
        if node.output in self.grids and not self.integer:
            self._quantize(node.output)

    def written(self, metadata: Mapping[str, str]) -> Written:
        """The file; its outputs are float32."""
        self.integer = False
        results = {title: self.activation(name) for name, title in self.graph.titles.items()}
        return self.model.written(("images", self._images), results, metadata)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor of the graph, for one image."""
        return one_image(self.graph.shapes[name])

    def activation(self, name: str, grid: Grid | None = None) -> int:
        """The number of a tensor of the graph, as the operation at hand wants it.

        Args:
          name: of one that is computed, or of a constant, which is float32.
          grid: for integers, with what steps, if not those of the tensor.
        """
        if name in self.graph.constants:
            if name not in self._constants:
                self._constants[name] = self.constant(name, self.graph.constants[name])
            return self._constants[name]
        if not self.integer:
            if name not in self._floats:
                title = self.graph.titles.get(name, f"{name}.float")
                self._floats[name] = self._tensor(title, self.shape(name))
                code = self._codes[name, _steps(self.grids[name])]
                self.model.operator("DEQUANTIZE", [code], [self._floats[name]], version=2)
            return self._floats[name]
        own, wanted = _steps(self.grids[name]), _steps(grid or self.grids[name])
        if (name, wanted) not in self._codes:
            self._codes[name, wanted] = self._tensor(f"{name}.again", self.shape(name), wanted)
            pair = [self._codes[name, own]], [self._codes[name, wanted]]
            self.model.operator("QUANTIZE", *pair, "QuantizeOptions", version=2)
        return self._codes[name, wanted]

    def moved(self, name: str, node: Node) -> int:
        """The number of a tensor that ``node`` only moves, on the grid of its result."""
        return self.activation(name, self.grids[node.output] if self.integer else None)

    def constant(self, name: str, array: np.ndarray) -> int:
        """The number of a constant; floats in single precision."""
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        return self.model.constant(name, array, shared=array.ndim == 0)

    def kernel(
        self, node: Node, arrange: Callable[[np.ndarray], np.ndarray], axis: int, times: int = 1
    ) -> int:
        """The number of the kernel of ``node``.

        If it is on a grid it is stored in int8, and dequantized for an operation in float32; the
        runtime does that once.

        Args:
          arrange: puts the axes of the kernel as LiteRT wants them.
          axis: of the outputs, when they are.
          times: how often that axis has every output.
        """
        name, steps = node.inputs[1], self.quantization.steps.get(node.inputs[1])
        kernel, title = self.graph.constants[name], f"{node.output}.weight"
        if steps is None:
            return self.constant(title, arrange(kernel))
        others = [i for i in range(kernel.ndim) if i != OUTPUT_AXIS[node.op]]
        integers = arrange(np.round(kernel / np.expand_dims(steps, others))).astype(np.int8)
        scales = np.tile(steps, times)
        grid = Stored(scales.tolist(), [0] * len(scales), axis)
        number = self.model.constant(title, integers, grid)
        if self.integer:
            return number
        result = self.model.tensor(f"{title}.float", integers.shape, "float32")
        self.model.operator("DEQUANTIZE", [number], [result], version=5)
        return result

    def bias(self, node: Node, times: int = 1) -> int:
        """The number of the bias of a node with a kernel; zeros if it has none, as XNNPACK asks.

        Args:
          times: how often it has every output.
        """
        outputs = self.graph.constants[node.inputs[1]].shape[OUTPUT_AXIS[node.op]]
        values = self.graph.constants[node.inputs[2]] if len(node.inputs) > 2 else 0.0
        values = np.tile(np.broadcast_to(values, (outputs,)), times)
        if not self.integer:
            return self.constant(f"{node.output}.bias", values)
        steps = np.tile(self.quantization.steps[node.inputs[1]], times).astype(np.float32)
        scales = np.float32(self.grids[node.inputs[0]].scale) * steps
        integers = np.clip(np.rint(values / scales), -INT32, INT32).astype(np.int32)
        grid = Stored(scales.tolist(), [0] * len(scales), 0)
        return self.model.constant(f"{node.output}.bias", integers, grid)

    def axes(self, values: Sequence[int]) -> int:
        """The number of a constant of axes."""
        return self.model.constant("axes", np.array(values, np.int32), shared=True)

    def sizes(self, values: Sequence[int]) -> int:
        """The number of a constant of sizes or places, some of which may be of channels."""
        return self.model.constant("sizes", np.array(values, np.int32))

    def temporary(self, shape: Sequence[int], grid: Grid | None = None) -> int:
        """A tensor between the operators of one operation.

        Args:
          shape: for one image.
          grid: that it is on, if the operation at hand computes with integers.
        """
        return self._tensor("between", shape, grid if self.integer else None)

    def result(self, node: Node, dtype: str = "float32", activates: bool = False) -> int:
        """The tensor for what ``node`` computes.

        Args:
          dtype: of an operation that does not compute with integers.
          activates: whether the operator clamps by itself what ``active`` says.
        """
        name = node.output
        if not self.integer:
            title = name if name in self.grids else self.graph.titles.get(name, name)
            self._floats[name] = self.model.tensor(title, self.shape(name), dtype)
            return self._floats[name]
        grid = self.grids[name]
        number = self._tensor(name, self.shape(name), grid)
        self._codes[name, _steps(grid)] = number
        if (grid.low, grid.high) == (0, CODES) or (activates and _active(grid) is not None):
            return number
        before = self._tensor("unclamped", self.shape(name), grid)
        self._clamped = before, number
        return before

    def active(self, node: Node) -> int:
        """LiteRT's number of the activation that the operator of ``node`` applies."""
        if not self.integer:
            return ACTIVATIONS[node.attributes.get("activation")]
        return ACTIVATIONS[_active(self.grids[node.output])]

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        node: Node,
        options: str | None = None,
        activates: bool = False,
        **fields: Any,
    ) -> None:
        """Appends the operator that computes the result of ``node``.

        Args:
          activates: whether it applies an activation.
        """
        if activates:
            fields["fusedActivationFunction"] = self.active(node)
        result = self.result(node, activates=activates)
        self.model.operator(op, inputs, [result], options, self.version(op, **fields), **fields)

    def version(self, op: str, **fields: Any) -> int:
        """Of an operator: what it first computed with integers, or had such options, in."""
        if fields.get("keepNumDims"):
            return 5
        return _INTEGER_VERSIONS.get(op, 1) if self.integer else 1

    def clamp(self, number: int, node: Node, low: float, high: float) -> None:
        """Makes the result of ``node``: codes of ``number`` within bounds that are numbers."""
        grid = self.grids[node.output]
        codes = max(grid.low, grid.code(low)), min(grid.high, grid.code(high))
        result = self._tensor(node.output, self.shape(node.output), grid)
        self._codes[node.output, _steps(grid)] = result
        self._clamp(number, result, grid._replace(low=codes[0], high=codes[1]))

    def _tensor(self, name: str, shape: Sequence[int], grid: Grid | None = None) -> int:
        if grid is None:
            return self.model.tensor(name, shape, "float32")
        return self.model.tensor(name, shape, "int8", stored(grid))

    def _quantize(self, name: str) -> None:
        """Makes int8 of a tensor that was computed in float32."""
        grid = self.grids[name]
        number = self._tensor(f"{name}.int8", self.shape(name), grid)
        # Who wants it in float32 from now on gets what the codes stand for.
        self.model.operator("QUANTIZE", [self._floats.pop(name)], [number], "QuantizeOptions")
        if (grid.low, grid.high) != (0, CODES):
            clamped = self._tensor(name, self.shape(name), grid)
            self._clamp(number, clamped, grid)
            number = clamped
        self._codes[name, _steps(grid)] = number

    def _clamp(self, number: int, result: int, grid: Grid) -> None:
        """Keeps codes between the bounds of their grid."""
        bounds = [("MAXIMUM", grid.low, 0), ("MINIMUM", grid.high, CODES)]
        steps = [(op, code) for op, code, free in bounds if code != free] or [("MINIMUM", CODES)]
        for place, (op, code) in enumerate(steps, 1):
            shape = self.model.shape(result)
            last = place == len(steps)
            after = result if last else self._tensor("between", shape, grid)
            bound = self.model.constant("bound", np.array(code - OFFSET, np.int8), stored(grid))
            options = "MaximumMinimumOptions"
            self.model.operator(op, [number, bound], [after], options, version=2)
            number = after


def stored(grid: Grid) -> Stored:
    """A grid as the file has it."""
    return Stored([grid.scale], [grid.zero_point - OFFSET])


def _steps(grid: Grid) -> Grid:
    """The grid with all its codes."""
    return grid._replace(low=0, high=CODES)


def _active(grid: Grid) -> str | None:
    """The activation that clamps to the bounds of a grid; None if none does.

    A clamp to what the codes can hold anyway is none. One to fewer codes than those of 8 bits is
    always an operator of its own, so that the size of a file does not follow its ranges.
    """
    if (grid.low, grid.high) == (0, CODES) or grid.low != max(0, grid.zero_point):
        return None
    if grid.high == CODES:
        return "RELU"
    six = round(6.0 / grid.scale) + grid.zero_point
    return "RELU6" if grid.high == six and six > CODES // 2 else None


def one_image(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with a batch of one."""
    return tuple(size // BATCH if depends_on_batch(size) else int(size) for size in shape)


def any_images(shape: Sequence[int]) -> list[int]:
    """A shape for an operator that finds out by itself, at most, the one size that is -1."""
    return [-1 if depends_on_batch(size) else int(size) for size in shape]
