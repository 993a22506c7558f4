"""ONNX files written node by node, as exporters other than PyTorch's write them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Call = tuple[str, list[str], dict[str, Any]]
"""Operator, inputs and attributes."""


def file_of(
    path: Path,
    calls: dict[str, Call],
    inputs: dict[str, list[Any]],
    arrays: dict[str, Any],
    opset: int = 18,
    outputs: list[str] | None = None,
) -> Path:
    """A file of nodes that are called as what they make.

    Args:
      path: of the file.
      calls: by the names of the results, separated by commas.
      inputs: sizes; a string is a free one.
      arrays: initializers.
      opset: of the file.
      outputs: all that no other node reads, if None.
    """
    nodes = [
        helper.make_node(op, operands, names.split(","), names.split(",")[0], **attributes)
        for names, (op, operands, attributes) in calls.items()
    ]
    read = {name for node in nodes for name in node.input}
    made = [name for node in nodes for name in node.output if name and name not in read]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)
            for name, sizes in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs or made],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10
    )
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {each.name: each for each in inferred.graph.value_info}
    for output in model.graph.output:
        if not output.type.HasField("tensor_type") and output.name in types:
            output.CopyFrom(types[output.name])
    kept = {each.name: each for each in inferred.graph.output}
    for output in model.graph.output:
        output.CopyFrom(kept[output.name])
    path.write_bytes(model.SerializeToString())
    return path
