"""An operator graph as an ONNX model in float32."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.graph.labelled.program import depends_on_batch

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


def to_model(graph: OperatorGraph, watched: Sequence[str] = ()) -> onnx.ModelProto:
    """A graph with channels first as a model in float32: input ``images``, output ``logits``,
    or several; see ``OperatorGraph.titles``.

    Args:
      graph: of a network.
      watched: tensors that are outputs too, in this order behind the network's own.
    """
    made, titles = Counter(), graph.titles
    rename = {graph.source: "images"}
    for node in graph.nodes:
        while (name := f"{node.op.lower()}_{made[node.op]}") in titles.values():
            made[node.op] += 1
        rename[node.output] = name
        made[node.op] += 1
    rename |= titles
    initializers: dict[str, np.ndarray] = {}
    stored: dict[str, str] = {}  # What several operations read is in the file once.
    nodes = []
    for node in graph.nodes:
        name, inputs = rename[node.output], []
        for position, value in enumerate(node.inputs):
            if value in graph.constants and value not in stored:
                stored[value] = f"{name}.{_role(node, position)}"
                initializers[stored[value]] = _single(graph.constants[value])
            inputs.append(stored.get(value) or rename.get(value, ""))
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
        if op == "Cast":
            attributes["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(attributes["to"]))
        proto = helper.make_node(op, inputs, [name], name)
        proto.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        nodes.append(proto)
    network = helper.make_graph(
        nodes,
        "network",
        [_value_info("images", graph.shapes[graph.source])],
        [_value_info(rename[name], graph.shapes[name]) for name in (*graph.outputs, *watched)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(
        network,
        producer_name="pfrl",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _role(node: Node, position: int) -> str:
    if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return ("input", "weight", "bias")[position]
    return f"operand{position}"


def _is_flatten(graph: OperatorGraph, node: Node) -> bool:
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    return len(after) == 2 and len(before) > 1 and before[0] == after[0]


def _single(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")


def _operand(key: str, value: Any) -> np.ndarray:
    if key in ("value", "min", "max"):
        return np.array(value, value.dtype if isinstance(value, np.generic) else np.float32)
    if key == "shape":
        return np.array([-1 if depends_on_batch(size) else size for size in value], np.int64)
    return np.array(value, np.int64)


def _value_info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    sizes = ["N" if depends_on_batch(size) else size for size in shape]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
