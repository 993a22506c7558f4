"""An operator graph and its grids as an ONNX model with integers (QDQ).

Every tensor that is on a grid is quantized behind what makes it, to uint8, and dequantized before
what reads it; kernels are int8 with a step for every output channel, biases int32. ONNX Runtime
and OpenVINO make an integer kernel of every operation between such pairs. What is on no grid
stays float, with pairs at its borders only. There a kernel of few bits is kept in int8 all the
same, for the bytes: as a product of constants, which a runtime computes once, when it loads the
file. A DequantizeLinear in its place would keep ONNX Runtime from arranging the kernel beforehand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    scales = {name: graph.constant(np.float32(grid.scale)) for name, grid in grids.items()}
    for node in [node for node in graph.nodes if node.op in OUTPUT_AXIS]:
        if is_integer(graph, node, grids, quantization):
            _quantize_kernel(graph, node, scales[node.inputs[0]], quantization, portable)
        elif node.inputs[1] in quantization.steps:
            _shrink_kernel(graph, node, quantization.steps[node.inputs[1]])
    return graph, _insert_pairs(graph, grids, scales)


def _quantize_kernel(
    graph: OperatorGraph, node: Node, scale: str, quantization: Quantization, portable: bool
) -> None:
    """Kernel and bias of a layer as integers that are dequantized before it.

    The steps of the bias are those of the input times those of the kernel. The file says so in
    place of a number for every output, which in a MobileNet-v2 are 3 % of its bytes.
    """
    axis, steps = OUTPUT_AXIS[node.op], quantization.steps[node.inputs[1]]
    integers, _ = _integers(graph, node, steps)
    grid: list[np.ndarray] = [steps.astype(np.float32)]
    if portable:
        grid.append(np.full(len(steps), ZERO, np.uint8))
    elif node.op in ("Gemm", "MatMul"):  # ONNX Runtime has no integer kernel for these without
        grid.append(np.zeros(len(steps), np.int8))
    integers = (integers + ZERO).astype(np.uint8) if portable else integers.astype(np.int8)
    names = [graph.constant(each) for each in (integers, *grid)]
    before = [_taken(graph, "DequantizeLinear", names, integers.shape, axis=axis)]
    inputs = [before[-1].output]
    if len(node.inputs) > 2:
        product = graph.constants[scale].astype(np.float32) * grid[0]
        bias = np.clip(np.round(graph.constants[node.inputs[2]] / product), -INT32, INT32)
        before.append(_taken(graph, "Mul", [scale, names[1]], product.shape))
        names = [graph.constant(bias.astype(np.int32)), before[-1].output]
        before.append(_taken(graph, "DequantizeLinear", names, bias.shape, axis=0))
        inputs.append(before[-1].output)
    place = graph.nodes.index(node)
    graph.nodes[place:place] = before
    node.inputs[1:] = inputs


def _shrink_kernel(graph: OperatorGraph, node: Node, steps: np.ndarray) -> None:
    """The kernel of a layer that computes with floats, as integers times their steps."""
    integers, steps = _integers(graph, node, steps)
    codes, shape = graph.constant(integers.astype(np.int8)), integers.shape
    cast = _taken(graph, "Cast", [codes], shape, to="float32")
    kernel = _taken(graph, "Mul", [cast.output, graph.constant(steps)], shape)
    node.inputs[1] = kernel.output
    place = graph.nodes.index(node)
    graph.nodes[place:place] = [cast, kernel]


def _integers(graph: OperatorGraph, node: Node, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel in steps, and these so that both multiply."""
    kernel = graph.constants[node.inputs[1]]
    others = [i for i in range(kernel.ndim) if i != OUTPUT_AXIS[node.op]]
    steps = np.expand_dims(steps, others)
    return np.round(kernel / steps), steps


def _taken(
    graph: OperatorGraph, op: str, inputs: Sequence[str], sizes: Sequence[int], **attributes: Any
) -> Node:
    """An operation for somewhere else than at the end of the graph."""
    graph.node(op, inputs, sizes, **attributes)
    return graph.nodes.pop()


def _insert_pairs(
    graph: OperatorGraph, grids: Mapping[str, Grid], scales: Mapping[str, str]
) -> dict[str, str]:
    nodes = graph.nodes
    graph.nodes = []
    renamed: dict[str, str] = {}
    if graph.source in grids:
        renamed[graph.source] = _pair(graph, graph.source, grids, scales)
    for node in nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        graph.nodes.append(node)
        if node.output in grids:
            renamed[node.output] = _pair(graph, node.output, grids, scales)
    graph.outputs = [renamed.get(name, name) for name in graph.outputs]
    return renamed


def _pair(
    graph: OperatorGraph, name: str, grids: Mapping[str, Grid], scales: Mapping[str, str]
) -> str:
    """A tensor, quantized and dequantized."""
    grid, scale, shape = grids[name], scales[name], graph.shapes[name]
    zero = graph.constant(np.uint8(grid.zero_point))
    name = graph.node("QuantizeLinear", [name, scale, zero], shape)
    if (grid.low, grid.high) != (0, CODES):
        name = graph.node("Clip", [name], shape, min=np.uint8(grid.low), max=np.uint8(grid.high))
    return graph.node("DequantizeLinear", [name, scale, zero], shape)
