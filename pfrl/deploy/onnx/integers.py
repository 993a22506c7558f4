"""An operator graph and its grids as an ONNX model with integers (QDQ).

Every tensor that is on a grid is quantized behind what makes it, to uint8, and dequantized before
what reads it; kernels are int8 with a step for every output channel, biases int32. ONNX Runtime
and OpenVINO make an integer kernel of every operation between such pairs. What is on no grid
stays float, with pairs at its borders only.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from pfrl.deploy.onnx.emit import to_model
from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.quantized import (
    CODES,
    OUTPUT_AXIS,
    Grid,
    Quantization,
    is_integer,
    settle,
)

INT32 = 2**31 - 1


def to_integer_model(graph: OperatorGraph, quantization: Quantization) -> onnx.ModelProto:
    """The model of a graph with channels first."""
    graph = graph.copy()
    grids = settle(graph, quantization)
    for node in [node for node in graph.nodes if node.op in OUTPUT_AXIS]:
        if is_integer(graph, node, grids, quantization):
            _quantize_kernel(graph, node, grids[node.inputs[0]], quantization)
    _insert_pairs(graph, grids)
    return to_model(graph)


def _quantize_kernel(
    graph: OperatorGraph, node: Node, grid: Grid, quantization: Quantization
) -> None:
    """Kernel and bias of a layer as integers that are dequantized before it."""
    axis, steps = OUTPUT_AXIS[node.op], quantization.steps[node.inputs[1]]
    kernel = graph.constants[node.inputs[1]]
    others = [i for i in range(kernel.ndim) if i != axis]
    integers = np.round(kernel / np.expand_dims(steps, others)).astype(np.int8)
    scales: list[np.ndarray] = [steps.astype(np.float32)]
    if node.op in ("Gemm", "MatMul"):  # ONNX Runtime has no integer kernel for these without
        scales.append(np.zeros(len(steps), np.int8))
    dequantized = [_dequantized(graph, axis, integers, *scales)]
    if len(node.inputs) > 2:
        scale = np.float32(grid.scale) * steps.astype(np.float32)
        bias = np.clip(np.round(graph.constants[node.inputs[2]] / scale), -INT32, INT32)
        dequantized.append(_dequantized(graph, 0, bias.astype(np.int32), scale))
    place = graph.nodes.index(node)
    graph.nodes[place:place] = dequantized
    node.inputs[1:] = [each.output for each in dequantized]


def _dequantized(graph: OperatorGraph, axis: int, integers: np.ndarray, *grid: np.ndarray) -> Node:
    """Integers on the grids of steps and, if given, zero points along an axis."""
    names = [graph.constant(each) for each in (integers, *grid)]
    graph.node("DequantizeLinear", names, integers.shape, axis=axis)
    return graph.nodes.pop()


def _insert_pairs(graph: OperatorGraph, grids: Mapping[str, Grid]) -> None:
    nodes = graph.nodes
    graph.nodes = []
    renamed: dict[str, str] = {}
    if graph.source in grids:
        renamed[graph.source] = _pair(graph, graph.source, grids[graph.source])
    for node in nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        graph.nodes.append(node)
        if node.output in grids:
            renamed[node.output] = _pair(graph, node.output, grids[node.output])
    graph.output = renamed.get(graph.output, graph.output)


def _pair(graph: OperatorGraph, name: str, grid: Grid) -> str:
    """A tensor, quantized and dequantized."""
    shape = graph.shapes[name]
    scale = graph.constant(np.float32(grid.scale))
    zero = graph.constant(np.uint8(grid.zero_point))
    name = graph.node("QuantizeLinear", [name, scale, zero], shape)
    if (grid.low, grid.high) != (0, CODES):
        name = graph.node("Clip", [name], shape, min=np.uint8(grid.low), max=np.uint8(grid.high))
    return graph.node("DequantizeLinear", [name, scale, zero], shape)
