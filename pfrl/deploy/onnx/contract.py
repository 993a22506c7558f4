"""ONNX for the JAX primitives that sum: convolution, matrix product, pooling, reduction."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from pfrl.deploy.onnx.graph import OnnxGraph, Tensor
from pfrl.deploy.onnx.ops import lowers, pointwise, unsupported
from pfrl.deploy.onnx.program import ExportError, Operation, depends_on_batch


def _refuse_batch(operation: Operation, sizes: Iterable[int]) -> None:
    if any(map(depends_on_batch, sizes)):
        raise ExportError(
            f"the JAX primitive '{operation.primitive}' sums over the images of a batch, as only "
            "training does; put the network in evaluation mode"
        )


@lowers("conv_general_dilated")
def _conv(graph, operation, inputs):
    (tensor, kernel), params = inputs, operation.params
    numbers, pads = params["dimension_numbers"], params["padding"]
    if not isinstance(kernel, np.ndarray):
        raise unsupported(operation, "has a kernel that depends on the images")
    if params["batch_group_count"] != 1 or any(size != 1 for size in params["lhs_dilation"]):
        raise unsupported(operation, "is a transposed convolution")
    if any(side < 0 for pair in pads for side in pair):
        raise unsupported(operation, f"has a negative padding {pads}")
    tensor = graph.relay(tensor, numbers.lhs_spec)
    kernel = kernel.transpose(numbers.rhs_spec)
    shape = operation.outputs[0].shape
    name = graph.node(
        "Conv",
        [tensor.name, graph.constant(kernel)],
        [shape[axis] for axis in numbers.out_spec],
        kernel_shape=list(kernel.shape[2:]),
        strides=list(map(int, params["window_strides"])),
        pads=_sides(pads),
        dilations=list(map(int, params["rhs_dilation"])),
        group=int(params["feature_group_count"]),
    )
    return Tensor(name, shape, tuple(numbers.out_spec))


def _sides(pads: Sequence[tuple[int, int]]) -> list[int]:
    return [int(low) for low, _ in pads] + [int(high) for _, high in pads]


@lowers("dot_general")
def _dot_general(graph, operation, inputs):
    """``[..., K] @ [K, M]`` with a constant kernel: Gemm or MatMul; two activations: MatMul."""
    (contract, batch), (left, right) = operation.params["dimension_numbers"], inputs
    _refuse_batch(operation, (left.shape[axis] for axis in contract[0]))
    _refuse_batch(operation, (right.shape[axis] for axis in contract[1]))
    if len(contract[0]) != 1:
        raise unsupported(operation, "sums over several axes at once; reshape first")
    shape, rank = operation.outputs[0].shape, len(left.shape)
    if isinstance(left, Tensor) and isinstance(right, np.ndarray) and right.ndim == 2:
        kernel = right if contract[1][0] == 0 else right.T
        order = [axis for axis in range(rank) if axis != contract[0][0]] + [contract[0][0]]
        name = graph.relay(left, order).name
        op = "Gemm" if rank == 2 else "MatMul"
        name = graph.node(op, [name, graph.constant(kernel)], shape)
        return Tensor(name, shape, tuple(range(len(shape))))
    free = [
        [axis for axis in range(len(value.shape)) if axis not in (*contract[side], *batch[side])]
        for side, value in enumerate(inputs)
    ]
    if any(len(axes) != 1 for axes in free):
        raise unsupported(
            operation, f"has {len(free[0])} and {len(free[1])} free axes, expected 1 and 1"
        )
    orders = [[*batch[0], *free[0], *contract[0]], [*batch[1], *contract[1], *free[1]]]
    names = [
        graph.relay(value, order).name
        if isinstance(value, Tensor)
        else graph.constant(value.transpose(order))
        for value, order in zip(inputs, orders, strict=True)
    ]
    return Tensor(graph.node("MatMul", names, shape), shape, tuple(range(len(shape))))


_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


@lowers(*_REDUCTIONS)
def _reduce(graph, operation, inputs):
    (tensor,), axes = inputs, operation.params["axes"]
    _refuse_batch(operation, (tensor.shape[axis] for axis in axes))
    rest = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    layout = tuple(rest.index(axis) for axis in tensor.layout if axis in rest)
    shape = operation.outputs[0].shape
    name = graph.node(
        _REDUCTIONS[operation.primitive],
        [tensor.name],
        [shape[axis] for axis in layout],
        axes=sorted(tensor.layout.index(axis) for axis in axes),
        keepdims=0,
    )
    return Tensor(name, shape, layout)


@lowers("reduce_window_max")
def _max_pool(graph, operation, inputs):
    return _pool(graph, operation, inputs[0], "MaxPool")


@lowers("reduce_window_sum")
def _sum_pool(graph, operation, inputs):
    """The mean over all of the window, padding included, times the size of the window."""
    mean = _pool(graph, operation, inputs[0], "AveragePool", count_include_pad=1)
    window = math.prod(operation.params["window_dimensions"])
    return pointwise(graph, "Mul", [mean, np.array(float(window))], mean.shape)


def _pool(graph: OnnxGraph, operation: Operation, tensor: Tensor, op: str, **attributes) -> Tensor:
    params, rank = operation.params, len(tensor.shape)
    keys = ("window_dimensions", "window_strides", "window_dilation", "padding")
    rows = list(zip(*(params[key] for key in keys), strict=True))
    pooled = [axis for axis in range(rank) if rows[axis] != (1, 1, 1, (0, 0))]
    if any(size != 1 for size in params["base_dilation"]):
        raise unsupported(operation, "pools between the elements")
    layout = _channels_first(tensor, pooled)
    if layout is None:
        raise unsupported(
            operation, f"pools over the axes {pooled} of {rank}; expected spatial axes"
        )
    window, strides, dilations, pads = zip(*(rows[axis] for axis in layout[2:]), strict=True)
    if any(size != 1 for size in dilations):
        raise unsupported(operation, "pools with a dilated window")
    tensor = graph.relay(tensor, layout)
    shape = operation.outputs[0].shape
    name = graph.node(
        op,
        [tensor.name],
        [shape[axis] for axis in layout],
        kernel_shape=list(map(int, window)),
        strides=list(map(int, strides)),
        pads=_sides(pads),
        **attributes,
    )
    return Tensor(name, shape, layout)


def _channels_first(tensor: Tensor, pooled: Sequence[int]) -> tuple[int, ...] | None:
    """A layout with the pooled axes behind the first two: the present one, or NHWC's."""
    rank = len(tensor.shape)
    if rank < 3:
        return None
    candidates = [tensor.layout, (0, rank - 1, *range(1, rank - 1)), tuple(range(rank))]
    return next((each for each in candidates if not set(pooled) & set(each[:2])), None)
