"""The operators of a graph in NumPy, in double precision: slow, plain, and right."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import erf, expit

from pfrl.deploy.operators.graph import Node, OperatorGraph
from pfrl.graph.labelled.program import depends_on_batch

Compute = Callable[[OperatorGraph, Node, Sequence[np.ndarray]], np.ndarray]
"""``(graph, node, operands) -> result``."""


def _elementwise(function: Callable[..., Any]) -> Compute:
    return lambda graph, node, operands: np.asarray(function(*operands))


def _reduced(function: Callable[..., Any]) -> Compute:
    return lambda graph, node, operands: np.asarray(
        function(operands[0], axis=tuple(node.attributes["axes"]))
    )


def clip(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    low, high = node.attributes.get("min", -np.inf), node.attributes.get("max", np.inf)
    return np.clip(operands[0], low, high)


def _matmul(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    product = operands[0] @ operands[1]
    return product + operands[2] if len(operands) > 2 else product


def _conv(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    """Tap by tap: ``[N, ..., I]`` times ``[I, O]`` of every place of the kernel."""
    x, kernel, *bias = operands
    at, x = node.attributes, _last(graph, x)
    taps, pads = kernel.shape[2:], np.reshape(at["pads"], (2, -1)).T
    x = np.pad(x, [(0, 0), *map(tuple, pads), (0, 0)])
    places = zip(x.shape[1:-1], taps, at["strides"], at["dilations"], strict=True)
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in places]
    groups, result = at["group"], np.zeros((len(x), *sizes, len(kernel)))
    for tap in np.ndindex(*taps):
        window = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, at["dilations"], sizes, at["strides"], strict=True)
        ]
        part = x[(slice(None), *window)]
        mine = kernel[(slice(None), slice(None), *tap)]  # [O, I / groups]
        result += _grouped(part, mine, groups)
    return _own(graph, result + bias[0] if bias else result)


def _grouped(x: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    """``[N, ..., I]`` and ``[O, I / groups]`` to ``[N, ..., O]``."""
    if groups == 1:
        return x @ kernel.T
    if kernel.shape == (groups, 1):
        return x * kernel[:, 0]
    x = x.reshape(*x.shape[:-1], groups, -1)
    kernel = kernel.reshape(groups, -1, kernel.shape[1])
    return np.einsum("...gi,goi->...go", x, kernel).reshape(*x.shape[:-2], -1)


def _conv_transpose(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    """The kernel ``[I, O, ...]`` added at every element of ``x``, ``pads`` cut off the result."""
    x, kernel, *bias = operands
    at, x = node.attributes, _last(graph, x)
    taps, pads = kernel.shape[2:], np.reshape(at["pads"], (2, -1)).T
    steps = list(zip(x.shape[1:-1], taps, at["strides"], at["dilations"], strict=True))
    sizes = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in steps]
    more = at["output_padding"]
    whole = np.zeros((len(x), *(a + b for a, b in zip(sizes, more, strict=True)), kernel.shape[1]))
    for tap in np.ndindex(*taps):
        window = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, (n, _, s, d) in zip(tap, steps, strict=True)
        ]
        whole[(slice(None), *window)] += x @ kernel[(slice(None), slice(None), *tap)]
    cut = [
        slice(int(low), size + beyond - int(high))
        for (low, high), size, beyond in zip(pads, sizes, more, strict=True)
    ]
    result = whole[(slice(None), *cut)]
    return _own(graph, result + bias[0] if bias else result)


def _pool(
    function: Callable[..., Any], empty: float
) -> Callable[[OperatorGraph, Node, Sequence[np.ndarray]], np.ndarray]:
    def compute(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
        at, x = node.attributes, _last(graph, operands[0])
        pads = np.reshape(at["pads"], (2, -1)).T
        if pads.any():
            fill = np.iinfo(x.dtype).min if x.dtype.kind in "iu" and empty < 0 else empty
            x = np.pad(x, [(0, 0), *map(tuple, pads), (0, 0)], constant_values=fill)
        axes = tuple(range(1, x.ndim - 1))
        windows = np.lib.stride_tricks.sliding_window_view(x, at["kernel_shape"], axes)
        windows = windows[(slice(None), *(slice(None, None, s) for s in at["strides"]))]
        return _own(graph, function(windows, axis=tuple(range(x.ndim, windows.ndim))))

    return compute


def _global_mean(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    x = operands[0]
    return x.mean(tuple(graph.spatial_axes(x.ndim)), keepdims=True)


def _last(graph: OperatorGraph, x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, graph.channel_axis(x.ndim), -1)


def _own(graph: OperatorGraph, x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, graph.channel_axis(x.ndim))


def _reshape(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    sizes = [-1 if depends_on_batch(size) else size for size in node.attributes["shape"]]
    return operands[0].reshape(sizes)


def _slice(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    cut = [slice(None)] * operands[0].ndim
    keys = ("axes", "starts", "ends", "steps")
    for axis, *bounds in zip(*(node.attributes[key] for key in keys), strict=True):
        cut[axis] = slice(*bounds)
    return operands[0][tuple(cut)]


def pad(x: np.ndarray, node: Node, value: float) -> np.ndarray:
    pads = np.reshape(node.attributes["pads"], (2, -1)).T
    return np.pad(x, [tuple(pair) for pair in pads], constant_values=value)


def _expand(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    shape = np.broadcast_shapes(operands[0].shape, tuple(node.attributes["shape"]))
    return np.broadcast_to(operands[0], shape)


def _gather(graph: OperatorGraph, node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    return np.take(operands[0], operands[1].astype(int), node.attributes["axis"])


MOVES: dict[str, Compute] = {
    "Identity": lambda graph, node, operands: operands[0],
    "Reshape": _reshape,
    "Transpose": lambda graph, node, operands: operands[0].transpose(node.attributes["perm"]),
    "Slice": _slice,
    "Expand": _expand,
    "Gather": _gather,
    "Concat": lambda graph, node, operands: np.concatenate(operands, node.attributes["axis"]),
    "MaxPool": _pool(np.max, -np.inf),
    "ReduceMax": _reduced(np.max),
}
"""What is done with codes as with numbers."""
OPERATORS: dict[str, Compute] = {
    **MOVES,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "AveragePool": _pool(np.mean, 0.0),
    "GlobalAveragePool": _global_mean,
    "Pad": lambda graph, node, operands: pad(operands[0], node, node.attributes["value"]),
    "Clip": clip,
    "Relu": _elementwise(lambda x: np.maximum(x, 0)),
    "Cast": lambda graph, node, operands: operands[0].astype(
        bool if node.attributes["to"] == "bool" else np.float64
    ),
    "ReduceSum": _reduced(np.sum),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceMean": lambda graph, node, operands: operands[0].mean(
        tuple(node.attributes["axes"]), keepdims=bool(node.attributes.get("keepdims", 1))
    ),
    **{
        name: _elementwise(function)
        for name, function in {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Div": np.divide,
            "Pow": np.power,
            "Max": np.maximum,
            "Min": np.minimum,
            "Abs": np.abs,
            "Sign": np.sign,
            "Floor": np.floor,
            "Ceil": np.ceil,
            "Round": np.rint,
            "Sqrt": np.sqrt,
            "Reciprocal": np.reciprocal,
            "Exp": np.exp,
            "Log": np.log,
            "Sin": np.sin,
            "Cos": np.cos,
            "Tanh": np.tanh,
            "Sigmoid": expit,
            "Erf": erf,
            "Not": np.logical_not,
            "And": np.logical_and,
            "Or": np.logical_or,
            "Xor": np.logical_xor,
            "Equal": np.equal,
            "Greater": np.greater,
            "GreaterOrEqual": np.greater_equal,
            "Less": np.less,
            "LessOrEqual": np.less_equal,
            "Where": np.where,
        }.items()
    },
}
"""By operator; kernels are ``[O, I, ...]`` as in the graph."""
