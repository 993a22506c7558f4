"""Operators for the JAX primitives that sum: convolution, matrix product, pooling, reduction."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pfrl.deploy.operators.graph import OperatorGraph, Tensor
from pfrl.deploy.operators.layout import reshaped
from pfrl.deploy.operators.ops import Value, lowers, pointwise, unsupported
from pfrl.deploy.operators.program import ExportError, Operation
from pfrl.graph.labelled.program import depends_on_batch


def _refuse_batch(operation: Operation, sizes: Iterable[int]) -> None:
    if any(map(depends_on_batch, sizes)):
        raise ExportError(
            f"the JAX primitive '{operation.primitive}' sums over the images of a batch, as only "
            "training does; put the network in evaluation mode"
        )


@lowers("conv_general_dilated")
def _conv(graph, operation, inputs):
    (tensor, kernel), params = inputs, operation.params
    numbers = params["dimension_numbers"]
    if not isinstance(kernel, np.ndarray):
        raise unsupported(operation, "has a kernel that depends on the images")
    if params["batch_group_count"] != 1:
        raise unsupported(operation, "has groups along the batch")
    kernel = kernel.transpose(numbers.rhs_spec)
    transposed = any(size != 1 for size in params["lhs_dilation"])
    attributes: dict[str, Any] = {
        "kernel_shape": list(kernel.shape[2:]),
        "strides": list(map(int, params["window_strides"])),
        "pads": _sides(params["padding"]),
        "dilations": list(map(int, params["rhs_dilation"])),
        "group": int(params["feature_group_count"]),
    }
    if transposed:
        attributes |= _between(operation, kernel.shape[2:])
        kernel = np.flip(kernel, tuple(range(2, kernel.ndim))).swapaxes(0, 1)
    elif any(side < 0 for pair in params["padding"] for side in pair):
        raise unsupported(operation, f"has a negative padding {params['padding']}")
    before, after = (
        graph.ordered(spec[0], spec[1], spec[2:]) for spec in (numbers.lhs_spec, numbers.out_spec)
    )
    shape = operation.outputs[0].shape
    name = graph.node(
        "ConvTranspose" if transposed else "Conv",
        [graph.relay(tensor, before).name, graph.constant(kernel)],
        [shape[axis] for axis in after],
        **attributes,
    )
    return Tensor(name, shape, after)


def _between(operation: Operation, taps: Sequence[int]) -> dict[str, list[int]]:
    """The attributes that a transposed convolution has otherwise than a convolution.

    JAX's is a convolution of ``x`` with zeros between its elements, padded by ``low`` and
    ``high``. ONNX's adds the kernel, mirrored, at every element of ``x`` and cuts ``pads`` off
    the result: ``low = dilation · (taps - 1) - pad``. What is left of the last stride without an
    element of ``x`` is ``output_padding``.
    """
    params = operation.params
    strides = list(map(int, params["lhs_dilation"]))
    if params["feature_group_count"] != 1 or any(size != 1 for size in params["window_strides"]):
        raise unsupported(operation, "is a transposed convolution with groups or a second stride")
    reach = [
        int(dilation) * (size - 1)
        for dilation, size in zip(params["rhs_dilation"], taps, strict=True)
    ]
    low = [far - int(pair[0]) for far, pair in zip(reach, params["padding"], strict=True)]
    high = [far - int(pair[1]) for far, pair in zip(reach, params["padding"], strict=True)]
    beyond = [max(0, -cut) for cut in high]
    if min(low) < 0 or any(more >= step for more, step in zip(beyond, strides, strict=True)):
        raise unsupported(
            operation,
            f"is a transposed convolution with padding {params['padding']} beyond its kernel",
        )
    return {
        "strides": strides,
        "pads": [*low, *(max(0, cut) for cut in high)],
        "output_padding": beyond,
    }


def _sides(pads: Sequence[tuple[int, int]]) -> list[int]:
    return [int(low) for low, _ in pads] + [int(high) for _, high in pads]


@lowers("dot_general")
def _dot_general(graph, operation, inputs):
    """``[..., K] @ [K, M]`` with a constant kernel: Gemm or MatMul; two activations: MatMul.

    Axes that are summed together, or left together, are one axis of the product.
    """
    (contract, batch), (left, right) = operation.params["dimension_numbers"], inputs
    _refuse_batch(operation, (left.shape[axis] for axis in contract[0]))
    _refuse_batch(operation, (right.shape[axis] for axis in contract[1]))
    shape = operation.outputs[0].shape
    if isinstance(left, Tensor) and isinstance(right, np.ndarray) and not batch[0]:
        free = _free(left, contract[0])
        order = [*contract[1], *_free(right, contract[1])]
        kernel = right.transpose(order)
        kernel = kernel.reshape(math.prod(kernel.shape[: len(contract[1])]), -1)
        left = _arranged(graph, operation, left, [[axis] for axis in free] + [list(contract[0])])
        op = "Gemm" if len(free) == 1 else "MatMul"
        sizes = (*left.shape[:-1], kernel.shape[1])
        name = graph.node(op, [left.name, graph.constant(kernel)], sizes)
    else:
        free = [_free(value, (*contract[i], *batch[i])) for i, value in enumerate(inputs)]
        parts = [
            [*([axis] for axis in batch[0]), free[0], list(contract[0])],
            [*([axis] for axis in batch[1]), list(contract[1]), free[1]],
        ]
        left, right = (
            _arranged(graph, operation, value, groups)
            for value, groups in zip(inputs, parts, strict=True)
        )
        sizes = (*left.shape[:-1], right.shape[-1])
        name = graph.node("MatMul", [left.name, right.name], sizes)
    product = Tensor(name, sizes, tuple(range(len(sizes))))
    return product if sizes == shape else reshaped(graph, operation, product, shape)


def _free(value: Value, taken: Sequence[int]) -> list[int]:
    return [axis for axis in range(len(value.shape)) if axis not in taken]


def _arranged(
    graph: OperatorGraph, operation: Operation, value: Value, groups: Sequence[Sequence[int]]
) -> Tensor:
    """``value`` with an axis for every group, of the axes in it, laid out in this order."""
    order = [axis for group in groups for axis in group]
    shape = tuple(math.prod(value.shape[axis] for axis in group) for group in groups)
    identity = tuple(range(len(groups)))
    if isinstance(value, np.ndarray):
        return Tensor(graph.constant(value.transpose(order).reshape(shape)), shape, identity)
    value = graph.relay(value, order)
    moved = Tensor(value.name, tuple(value.shape[axis] for axis in order), tuple(range(len(order))))
    return moved if moved.shape == shape else reshaped(graph, operation, moved, shape)


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


def _pool(
    graph: OperatorGraph, operation: Operation, tensor: Tensor, op: str, **attributes
) -> Tensor:
    params, rank = operation.params, len(tensor.shape)
    keys = ("window_dimensions", "window_strides", "window_dilation", "padding")
    rows = list(zip(*(params[key] for key in keys), strict=True))
    pooled = [axis for axis in range(rank) if rows[axis] != (1, 1, 1, (0, 0))]
    if any(size != 1 for size in params["base_dilation"]):
        raise unsupported(operation, "pools between the elements")
    layout = _pooling_layout(graph, tensor, pooled)
    if layout is None:
        raise unsupported(
            operation, f"pools over the axes {pooled} of {rank}; expected spatial axes"
        )
    space = [layout[axis] for axis in graph.spatial_axes(rank)]
    window, strides, dilations, pads = zip(*(rows[axis] for axis in space), strict=True)
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


def _pooling_layout(
    graph: OperatorGraph, tensor: Tensor, pooled: Sequence[int]
) -> tuple[int, ...] | None:
    """A layout with the pooled axes where the graph has space: the present one, or that of NHWC."""
    rank = len(tensor.shape)
    if rank < 3:
        return None
    space = graph.spatial_axes(rank)
    nhwc = graph.ordered(0, rank - 1, range(1, rank - 1))
    nchw = graph.ordered(0, 1, range(2, rank))
    return next(
        (
            each
            for each in (tensor.layout, nhwc, nchw)
            if set(pooled) <= {each[axis] for axis in space}
        ),
        None,
    )
