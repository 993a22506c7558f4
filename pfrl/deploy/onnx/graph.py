"""An ONNX graph under construction: nodes with plain attributes, tensors that know their layout."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pfrl.deploy.onnx.program import depends_on_batch

OPSET = 18
"""New enough for every operator used here, old enough for all fusions of ONNX Runtime."""

IR_VERSION = 8

# Attributes of our nodes that ONNX wants as inputs, in this order.
_AS_INPUTS: dict[str, tuple[str, ...]] = {
    "Reshape": ("shape",),
    "Expand": ("shape",),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Pad": ("pads", "value"),
    "Clip": ("min", "max"),
    "ReduceSum": ("axes",),
    "ReduceMean": ("axes",),
    "ReduceMax": ("axes",),
    "ReduceMin": ("axes",),
    "ReduceProd": ("axes",),
}


class Tensor(NamedTuple):
    """A value of the graph as JAX sees it.

    ``layout`` names the JAX axis behind every axis of the ONNX tensor:
    ``(0, 3, 1, 2)`` for an NHWC array that the graph holds as NCHW. ``shape``
    is JAX's.
    """

    name: str
    shape: tuple[int, ...]
    layout: tuple[int, ...]


@dataclass
class Node:
    """One operation; an empty input name is an optional input that is left out."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)


class OnnxGraph:
    """Nodes in topological order, constants, and the shapes of all tensors in ONNX's axis order."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._made = Counter()
        self._relaid: dict[tuple[str, tuple[int, ...]], Tensor] = {}

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
        """Appends an operation whose result has ``sizes`` (ONNX's axis order); returns its name."""
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
            self._relaid[key] = Tensor(name, tensor.shape, layout)
        return self._relaid[key]

    def _name(self, stem: str) -> str:
        self._made[stem] += 1
        return f"{stem}_{self._made[stem] - 1}"


def _large(layout: Sequence[int], shape: Sequence[int]) -> list[int]:
    return [axis for axis in layout if shape[axis] != 1]


class View:
    """The graph, who made each value, and how often each is used."""

    def __init__(self, graph: OnnxGraph, output: str):
        self.graph = graph
        self.output = output
        self.producers = {node.output: node for node in graph.nodes}
        self.uses = Counter([output, *(name for node in graph.nodes for name in node.inputs)])

    def source(self, name: str, *ops: str) -> Node | None:
        """The node that made ``name`` if it is one of ``ops`` and nobody else uses its result."""
        node = self.producers.get(name)
        return node if node and node.op in ops and self.uses[name] == 1 else None

    def constant(self, node: Node, position: int = 1) -> np.ndarray | None:
        if len(node.inputs) <= position:
            return None
        return self.graph.constants.get(node.inputs[position])

    def bypass(self, node: Node, name: str) -> bool:
        """Takes out ``node``, whose result is ``name``; not if that renames the network's input."""
        producer = self.producers.get(name)
        if node.output == self.output:
            if producer is None or self.uses[name] > 1:
                return False
            producer.output = node.output
            self.graph.shapes[node.output] = self.graph.shapes[name]
        else:
            for other in self.graph.nodes:
                other.inputs = [name if i == node.output else i for i in other.inputs]
        self.graph.nodes.remove(node)
        return True


def to_model(graph: OnnxGraph, source: str, output: str) -> onnx.ModelProto:
    """The graph as an ONNX model in float32 with input ``images`` and output ``logits``."""
    made = Counter()
    rename = {source: "images"}
    for node in graph.nodes:
        rename[node.output] = f"{node.op.lower()}_{made[node.op]}"
        made[node.op] += 1
    rename[output] = "logits"
    initializers: dict[str, np.ndarray] = {}
    nodes = []
    for node in graph.nodes:
        name, inputs = rename[node.output], []
        for position, value in enumerate(node.inputs):
            inputs.append(rename.get(value, f"{name}.{_role(node, position)}"))
            if value in graph.constants:
                initializers[inputs[-1]] = _single(graph.constants[value])
        attributes: dict[str, Any] = dict(node.attributes)
        op = node.op
        if op == "Reshape" and _is_flatten(graph, node):
            op, attributes = "Flatten", {"axis": 1}
        for key in _AS_INPUTS.get(op, ()):
            value = attributes.pop(key, None)
            inputs.append("" if value is None else f"{name}.{key}")
            if value is not None:
                initializers[inputs[-1]] = _operand(key, value)
        while inputs and not inputs[-1]:
            inputs.pop()
        proto = helper.make_node(op, inputs, [name], name)
        proto.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        nodes.append(proto)
    network = helper.make_graph(
        nodes,
        "network",
        [_value_info("images", graph.shapes[source])],
        [_value_info("logits", graph.shapes[output])],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(
        network,
        producer_name="pfrl",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _role(node: Node, position: int) -> str:
    if node.op in ("Conv", "Gemm", "MatMul"):
        return ("input", "weight", "bias")[position]
    return f"operand{position}"


def _is_flatten(graph: OnnxGraph, node: Node) -> bool:
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    return len(after) == 2 and len(before) > 1 and before[0] == after[0]


def _single(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")


def _operand(key: str, value: Any) -> np.ndarray:
    if key in ("value", "min", "max"):
        return np.array(value, np.float32)
    if key == "shape":
        return np.array([-1 if depends_on_batch(size) else size for size in value], np.int64)
    return np.array(value, np.int64)


def _value_info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    sizes = ["N" if depends_on_batch(size) else size for size in shape]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
