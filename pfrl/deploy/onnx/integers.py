"""An operator graph and its grids as an ONNX model with integers (QDQ).

Every tensor that is on a grid is quantized behind what makes it, to uint8, and dequantized before
what reads it; kernels are int8 with a step for every output channel, biases int32. ONNX Runtime
and OpenVINO make an integer kernel of every operation between such pairs. What is on no grid
stays float, with pairs at its borders only. There a kernel of few bits is kept in int8 all the
same, for the bytes: as a product of constants, which a runtime computes once, when it loads the
file. A DequantizeLinear in its place would keep ONNX Runtime from arranging the kernel beforehand.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from pfrl.deploy.onnx.emit import to_model
from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.deploy.operators.patterns import apply, error_function, softmax
from pfrl.deploy.operators.quantized import (
    CODES,
    OUTPUT_AXIS,
    Grid,
    Quantization,
    is_integer,
    settle,
)

INT32 = 2**31 - 1
ZERO = 128
"""What stands for zero in a kernel of uint8."""


def to_integer_model(
    graph: OperatorGraph, quantization: Quantization, portable: bool = False
) -> onnx.ModelProto:
    """The model of a graph with channels first.

    Args:
      graph, quantization: from ``build_quantized``.
      portable: kernels are uint8, with 128 for zero. Then no processor sums up pairs of products
        in 16 bits, as those without VNNI do with int8, where they may not fit; it is slower.
    """
    return to_model(with_pairs(graph, quantization, portable)[0])


def with_pairs(
    graph: OperatorGraph, quantization: Quantization, portable: bool = False
) -> tuple[OperatorGraph, dict[str, str]]:
    """A graph of ONNX's own operators, and by tensor on a grid the name of its dequantized one."""
    graph = graph.copy()
    grids = settle(graph, quantization)
    for rule in (softmax, error_function):
        apply(rule, graph, grids)
    for node in [node for node in graph.nodes if node.op in OUTPUT_AXIS]:
        if is_integer(graph, node, grids, quantization):
            _quantize_kernel(graph, node, grids[node.inputs[0]], quantization, portable)
        elif node.inputs[1] in quantization.steps:
            _shrink_kernel(graph, node, quantization.steps[node.inputs[1]])
    return graph, _insert_pairs(graph, grids)


def _quantize_kernel(
    graph: OperatorGraph, node: Node, grid: Grid, quantization: Quantization, portable: bool
) -> None:
    """Kernel and bias of a layer as integers that are dequantized before it."""
    axis, steps = OUTPUT_AXIS[node.op], quantization.steps[node.inputs[1]]
    integers, _ = _integers(graph, node, steps)
    scales: list[np.ndarray] = [steps.astype(np.float32)]
    if portable:
        scales.append(np.full(len(steps), ZERO, np.uint8))
    elif node.op in ("Gemm", "MatMul"):  # ONNX Runtime has no integer kernel for these without
        scales.append(np.zeros(len(steps), np.int8))
    integers = (integers + ZERO).astype(np.uint8) if portable else integers.astype(np.int8)
    dequantized = [_dequantized(graph, axis, integers, *scales)]
    if len(node.inputs) > 2:
        scale = np.float32(grid.scale) * steps.astype(np.float32)
        bias = np.clip(np.round(graph.constants[node.inputs[2]] / scale), -INT32, INT32)
        dequantized.append(_dequantized(graph, 0, bias.astype(np.int32), scale))
    place = graph.nodes.index(node)
    graph.nodes[place:place] = dequantized
    node.inputs[1:] = [each.output for each in dequantized]


def _shrink_kernel(graph: OperatorGraph, node: Node, steps: np.ndarray) -> None:
    """The kernel of a layer that computes with floats, as integers times their steps."""
    integers, steps = _integers(graph, node, steps)
    shape = integers.shape
    name = graph.node("Cast", [graph.constant(integers.astype(np.int8))], shape, to="float32")
    node.inputs[1] = graph.node("Mul", [name, graph.constant(steps)], shape)
    made = [graph.nodes.pop() for _ in range(2)][::-1]
    place = graph.nodes.index(node)
    graph.nodes[place:place] = made


def _integers(graph: OperatorGraph, node: Node, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel in steps, and these so that both multiply."""
    kernel = graph.constants[node.inputs[1]]
    others = [i for i in range(kernel.ndim) if i != OUTPUT_AXIS[node.op]]
    steps = np.expand_dims(steps, others)
    return np.round(kernel / steps), steps


def _dequantized(graph: OperatorGraph, axis: int, integers: np.ndarray, *grid: np.ndarray) -> Node:
    """Integers on the grids of steps and, if given, zero points along an axis."""
    names = [graph.constant(each) for each in (integers, *grid)]
    graph.node("DequantizeLinear", names, integers.shape, axis=axis)
    return graph.nodes.pop()


def _insert_pairs(graph: OperatorGraph, grids: Mapping[str, Grid]) -> dict[str, str]:
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
    graph.outputs = [renamed.get(name, name) for name in graph.outputs]
    return renamed


def _pair(graph: OperatorGraph, name: str, grid: Grid) -> str:
    """A tensor, quantized and dequantized."""
    shape = graph.shapes[name]
    scale = graph.constant(np.float32(grid.scale))
    zero = graph.constant(np.uint8(grid.zero_point))
    name = graph.node("QuantizeLinear", [name, scale, zero], shape)
    if (grid.low, grid.high) != (0, CODES):
        name = graph.node("Clip", [name], shape, min=np.uint8(grid.low), max=np.uint8(grid.high))
    return graph.node("DequantizeLinear", [name, scale, zero], shape)
