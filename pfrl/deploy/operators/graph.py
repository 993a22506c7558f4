"""A graph of operations under construction: plain attributes, tensors that know their layout.

Operators and attributes are ONNX's, with two exceptions: what ONNX wants as constant inputs
(shapes, bounds, axes) are attributes, and with channels last a convolution or a pool reads and
writes ``[N, ..., C]``. Kernels are ``[O, I, ...]`` in either layout.
"""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

Channels = Literal["first", "last"]
"""Where a convolution has its channels: behind the batch axis, or at the end."""


class Tensor(NamedTuple):
    """A value of the graph as JAX sees it.

    ``layout`` names the JAX axis behind every axis of the graph's tensor:
    ``(0, 3, 1, 2)`` for an NHWC array that the graph holds as NCHW. ``shape``
    is JAX's.
    """

    name: str
    shape: tuple[int, ...]
    layout: tuple[int, ...]


@dataclass
class Node:
    """One operation; an empty input name is an optional input that is left out.

    Attributes:
      op: the operator.
      inputs, output: names of tensors and constants.
      attributes: plain values.
      layer: the layer of the network that it is, if that was marked.
      moves: whether it is a convolution that only puts values elsewhere.
    """

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: str | None = None
    moves: bool = False


class OperatorGraph:
    """Nodes in topological order, constants, and the shapes of all tensors in the graph's order.

    Args:
      channels: see ``Channels``.

    Attributes:
      source, outputs: names of the input and of the results; sizes that depend on the batch are
        multiples of ``program.BATCH``.
      names: of several results, as the network calls them; empty if it does not.
      values: the value of the JAX program that a tensor is, whatever its layout, by name;
        tensors that the lowering put between two values have none.
      sites: names of values that were marked as sites; a tensor of one of them stays.
    """

    def __init__(self, channels: Channels = "first"):
        self.channels: Channels = channels
        self.source = ""
        self.outputs: list[str] = []
        self.names: list[str] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.values: dict[str, int] = {}
        self.sites: dict[int, str] = {}
        self._made = Counter()
        self._relaid: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def copy(self) -> "OperatorGraph":
        """Another graph of the same arrays, whose nodes may be changed."""
        other = copy(self)
        other.nodes = [
            replace(node, inputs=list(node.inputs), attributes=dict(node.attributes))
            for node in self.nodes
        ]
        for name in (
            "outputs",
            "names",
            "constants",
            "shapes",
            "values",
            "sites",
            "_made",
            "_relaid",
        ):
            setattr(other, name, copy(getattr(self, name)))
        return other

    @property
    def titles(self) -> dict[str, str]:
        """What files call the results, by tensor."""
        if len(self.outputs) == 1:
            return {self.outputs[0]: "logits"}
        numbered = [f"output_{number}" for number in range(len(self.outputs))]
        return dict(zip(self.outputs, self.names or numbered, strict=True))

    def channel_axis(self, rank: int) -> int:
        """Of a convolution's or a pool's input and result, of so many axes."""
        return 1 if self.channels == "first" else rank - 1

    def spatial_axes(self, rank: int) -> list[int]:
        """Of a convolution's or a pool's input and result, of so many axes."""
        start = 2 if self.channels == "first" else 1
        return list(range(start, start + rank - 2))

    def ordered(self, batch: int, channel: int, space: Sequence[int]) -> tuple[int, ...]:
        """What belongs to the axes of a convolution, in the graph's order."""
        if self.channels == "first":
            return (batch, channel, *space)
        return (batch, *space, channel)

    def constant(self, array: Any) -> str:
        """The name of a new constant; floats are kept in double precision up to the file."""
        array = np.asarray(array)
        name = self._name("constant")
        self.constants[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        self.shapes[name] = array.shape
        return name

    def node(
        self, op: str, inputs: Sequence[str], sizes: Sequence[int], /, **attributes: Any
    ) -> str:
        """Appends an operation with a result of ``sizes`` (the graph's order); returns its name."""
        name = self._name(op.lower())
        self.nodes.append(Node(op, list(inputs), name, attributes))
        self.shapes[name] = tuple(sizes)
        return name

    def relay(self, tensor: Tensor, layout: Sequence[int]) -> Tensor:
        """``tensor`` in ``layout``; a Reshape if only axes of size 1 move, else a Transpose."""
        layout = tuple(layout)
        if tensor.layout == layout:
            return tensor
        key = tensor.name, layout
        if key not in self._relaid:
            shape = tuple(tensor.shape[axis] for axis in layout)
            if _large(tensor.layout, tensor.shape) == _large(layout, tensor.shape):
                name = self.node("Reshape", [tensor.name], shape, shape=shape)
            else:
                order = [tensor.layout.index(axis) for axis in layout]
                name = self.node("Transpose", [tensor.name], shape, perm=order)
            if tensor.name in self.values:
                self.values[name] = self.values[tensor.name]
            self._relaid[key] = Tensor(name, tensor.shape, layout)
        return self._relaid[key]

    def site(self, name: str) -> str | None:
        """The site that a tensor is."""
        return self.sites.get(self.values.get(name, -1))

    def same_value(self, name: str, other: str | None = None) -> None:
        """From now on ``name`` is the value that ``other`` is; none of the program's without."""
        value = self.values.get(other) if other is not None else None
        self.values.pop(name, None)
        if value is not None:
            self.values[name] = value

    def _name(self, stem: str) -> str:
        self._made[stem] += 1
        return f"{stem}_{self._made[stem] - 1}"


def _large(layout: Sequence[int], shape: Sequence[int]) -> list[int]:
    return [axis for axis in layout if shape[axis] != 1]


class View:
    """The graph, who made each value, and how often each is used."""

    def __init__(self, graph: OperatorGraph):
        self.graph = graph
        self.producers = {node.output: node for node in graph.nodes}
        used = (name for node in graph.nodes for name in node.inputs)
        self.uses = Counter([*graph.outputs, *used])

    def source(self, name: str, *ops: str) -> Node | None:
        """The node that made ``name`` if it is one of ``ops`` and its result may vanish: nobody
        else uses it, and it is no site."""
        node = self.producers.get(name)
        if node is None or node.op not in ops or self.uses[name] > 1 or self.graph.site(name):
            return None
        return node

    def constant(self, node: Node, position: int = 1) -> np.ndarray | None:
        if len(node.inputs) <= position:
            return None
        return self.graph.constants.get(node.inputs[position])

    def bypass(self, node: Node, name: str) -> bool:
        """Takes out ``node``, whose result is ``name``; not if that renames the network's input,
        or a site would vanish."""
        graph, producer = self.graph, self.producers.get(name)
        value = graph.values.get(node.output)
        same = value is not None and graph.values.get(name) == value
        if graph.site(node.output) and not same and (graph.site(name) or self.uses[name] > 1):
            return False
        if node.output in graph.outputs:
            if producer is None or self.uses[name] > 1:
                return False
            producer.output = node.output
            graph.shapes[node.output] = graph.shapes[name]
        else:
            for other in graph.nodes:
                other.inputs = [name if i == node.output else i for i in other.inputs]
            if producer is not None and self.uses[name] == 1 and not graph.site(name):
                graph.same_value(name, node.output)
        graph.nodes.remove(node)
        return True
