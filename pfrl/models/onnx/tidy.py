"""What exporters leave in a file that is no part of the network, put right."""

import numpy as np
import onnx
from onnx import numpy_helper


def tidy(model: onnx.ModelProto) -> None:
    """Change a model in place; what it computes stays.

    Args:
      model: with the arrays of other files read.
    """
    _drop_unread_inputs(model.graph)
    _copy_shared_constants(model.graph)


def _drop_unread_inputs(graph: onnx.GraphProto) -> None:
    """Remove inputs that no node reads, if one is read: tf2onnx leaves folded constants behind."""
    read = {name for node in graph.node for name in node.input}
    read.update(each.name for each in graph.output)
    used = [each for each in graph.input if each.name in read]
    if used:
        del graph.input[:]
        graph.input.extend(used)


def _copy_shared_constants(graph: onnx.GraphProto) -> None:
    """Give every node an array of equal numbers of its own, of which exporters keep only one.

    As one variable it would tie the channels of all layers that read it.
    """
    arrays = {each.name: each for each in graph.initializer}
    read: set[str] = set()
    for node in graph.node:
        names = list(node.input)
        for name in dict.fromkeys(names):
            if name in read and name in arrays and _of_equal_numbers(arrays[name]):
                copy = graph.initializer.add()
                copy.CopyFrom(arrays[name])
                copy.name = f"{name} of {node.output[0]}"
                node.input[:] = [copy.name if each == name else each for each in node.input]
        read.update(names)


def _of_equal_numbers(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= 1:
        return False
    array = numpy_helper.to_array(tensor)
    return bool((array == array.flat[0]).all())
