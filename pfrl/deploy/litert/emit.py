"""An operator graph as a LiteRT model: tensors and operators by the rules of its format.

``emit`` walks the graph; how each operation is said in LiteRT is in ``kernels`` (what has
weights, and pools), ``movement`` and ``pointwise``, a small function an operation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pfrl.deploy.litert.flatbuffer import FlatModel
from pfrl.deploy.litert.patterns import find_patterns
from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.program import BATCH, ExportError, depends_on_batch

EMITTERS: dict[str, Callable[["Emitter", Node], None]] = {}
"""By the name of the graph's operation."""


def emits(*ops: str) -> Callable:
    """Registers a function as the emitter of operations of these names."""

    def register(function: Callable[["Emitter", Node], None]) -> Callable:
        EMITTERS.update(dict.fromkeys(ops, function))
        return function

    return register


def emit(graph: OperatorGraph, metadata: Mapping[str, str]) -> bytes:
    """A graph with channels last as the bytes of a ``.tflite`` file, in float32.

    Its input is ``images``, its output ``logits``; sizes are those of one image, and operators
    are such that the runtime can resize the input to any number of images.

    Args:
      graph: is changed.
      metadata: strings that the file carries along.

    Raises:
      ExportError: if LiteRT has no operator for something.
      Unavailable: if LiteRT is not installed.
    """
    emitter = Emitter(find_patterns(graph))
    for node in graph.nodes:
        if node.op not in EMITTERS:
            raise ExportError(
                f"the operation {node.op} has no counterpart in LiteRT; write the network without"
                " it, or add an emitter to pfrl/deploy/litert/"
            )
        EMITTERS[node.op](emitter, node)
    source, result = emitter.activation(graph.source), emitter.activation(graph.output)
    return emitter.model.to_bytes(("images", source), ("logits", result), metadata)


class Emitter:
    """A model under construction, and the tensors that it has for those of the graph."""

    def __init__(self, graph: OperatorGraph):
        self.graph = graph
        self.model = FlatModel()
        self._numbers = {
            graph.source: self.model.tensor(
                "images", one_image(graph.shapes[graph.source]), "float32"
            )
        }

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor of the graph, for one image."""
        return one_image(self.graph.shapes[name])

    def activation(self, name: str) -> int:
        """The number of a tensor of the graph: one that is computed, or a constant as it is."""
        if name in self._numbers:
            return self._numbers[name]
        return self.constant(name, self.graph.constants[name])

    def constant(self, name: str, array: np.ndarray) -> int:
        """The number of a constant; floats in single precision."""
        array = np.asarray(array)
        return self.model.constant(
            name, array.astype(np.float32) if array.dtype.kind == "f" else array
        )

    def integers(self, values: Sequence[int]) -> int:
        """The number of a constant of axes, sizes or places."""
        return self.model.constant("sizes", np.array(values, np.int32))

    def temporary(self, shape: Sequence[int], dtype: str = "float32") -> int:
        """A tensor between the operators of one operation; ``shape`` is for one image."""
        return self.model.tensor("between", shape, dtype)

    def result(self, node: Node, dtype: str = "float32") -> int:
        """The tensor for what ``node`` computes."""
        name = "logits" if node.output == self.graph.output else node.output
        number = self.model.tensor(name, self.shape(node.output), dtype)
        self._numbers[node.output] = number
        return number

    def operator(
        self, op: str, inputs: Sequence[int], node: Node, options: str | None = None, **fields: Any
    ) -> None:
        """Appends the operator that computes the result of ``node``."""
        self.model.operator(op, inputs, [self.result(node)], options, **fields)


def one_image(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with a batch of one."""
    return tuple(size // BATCH if depends_on_batch(size) else int(size) for size in shape)


def any_images(shape: Sequence[int]) -> list[int]:
    """A shape for an operator that finds out by itself, at most, the one size that is -1."""
    return [-1 if depends_on_batch(size) else int(size) for size in shape]
