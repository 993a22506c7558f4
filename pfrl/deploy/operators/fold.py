"""Rules that fold constants into kernels and biases: normalisation costs nothing in the runtime.

A rule looks at one node of a graph and its neighbours and returns whether
it changed anything. Constants are folded in double precision.
"""

import numpy as np

from pfrl.deploy.operators.graph import Node, View

_KERNELS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Operators with a constant kernel and the kernel's output axis."""


def channel_axis(view: View, node: Node, name: str) -> int:
    """The axis of the channels in a tensor that ``node``, one with a kernel, reads or makes."""
    rank = len(view.graph.shapes[name])
    return view.graph.channel_axis(rank) if node.op.startswith("Conv") else rank - 1


def _per_channel(constant: np.ndarray | None, rank: int, axis: int, size: int) -> np.ndarray | None:
    """``constant`` as ``[size]`` if it varies along one axis only of a value with ``rank`` axes."""
    if constant is None or constant.ndim > rank:
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if any(n != 1 for i, n in enumerate(shape) if i != axis % rank) or shape[axis] not in (1, size):
        return None
    return np.broadcast_to(constant.reshape(-1), (size,))


def expands(view: View, constant: np.ndarray, name: str) -> bool:
    shape = view.graph.shapes[name]
    return np.broadcast_shapes(constant.shape, shape) != shape


def scale_into_kernel(view: View, node: Node) -> bool:
    """(x @ kernel + bias) * c is one product with a scaled kernel and bias."""
    if node.op != "Mul" or (source := view.source(node.inputs[0], *_KERNELS)) is None:
        return False
    kernel = view.constant(source)
    if kernel is None:
        return False
    axis = _KERNELS[source.op]
    rank = len(view.graph.shapes[source.output])
    channel = channel_axis(view, source, source.output)
    scale = _per_channel(view.constant(node), rank, channel, kernel.shape[axis])
    if scale is None:
        return False
    unit = [-1 if i == axis else 1 for i in range(kernel.ndim)]
    source.inputs[1] = view.graph.constant(kernel * scale.reshape(unit))
    if len(source.inputs) > 2:
        source.inputs[2] = view.graph.constant(view.graph.constants[source.inputs[2]] * scale)
    return view.bypass(node, source.output)


def shift_into_bias(view: View, node: Node) -> bool:
    """x @ kernel + c has c as its bias."""
    if (
        node.op != "Add"
        or (source := view.source(node.inputs[0], "Conv", "ConvTranspose", "Gemm")) is None
    ):
        return False
    kernel = view.constant(source)
    if kernel is None:
        return False
    rank = len(view.graph.shapes[source.output])
    channel = channel_axis(view, source, source.output)
    shift = _per_channel(view.constant(node), rank, channel, kernel.shape[_KERNELS[source.op]])
    if shift is None:
        return False
    if len(source.inputs) > 2:
        shift = shift + view.graph.constants[source.inputs[2]]
    source.inputs[2:] = [view.graph.constant(shift)]
    return view.bypass(node, source.output)


def scale_of_input(view: View, node: Node) -> bool:
    """(x * c) @ kernel is one product; zeros that a convolution pads with stay zeros."""
    if node.op not in _KERNELS or (source := view.source(node.inputs[0], "Mul")) is None:
        return False
    return _absorb(view, node, view.constant(source), source.inputs[0])


def affine_of_input(view: View, node: Node) -> bool:
    """(x * c + d) @ kernel = (x + d / c) * c @ kernel: normalised images need one addition only."""
    if node.op not in _KERNELS or (add := view.source(node.inputs[0], "Add")) is None:
        return False
    multiply, shift = view.source(add.inputs[0], "Mul"), view.constant(add)
    if multiply is None or shift is None or expands(view, shift, add.inputs[0]):
        return False
    scale = view.constant(multiply)
    if scale is None or not scale.all() or not _absorb(view, node, scale, multiply.inputs[0]):
        return False
    node.inputs[0] = add.output
    add.inputs = [multiply.inputs[0], view.graph.constant(shift / scale)]
    view.graph.same_value(add.output)
    return True


def _absorb(view: View, node: Node, constant: np.ndarray | None, name: str) -> bool:
    """Lets the product ``node`` work on ``name`` in place of ``name * constant``."""
    kernel = view.constant(node)
    if kernel is None or constant is None or node.attributes.get("group", 1) != 1:
        return False
    if expands(view, constant, name):
        return False
    rank, axis = len(view.graph.shapes[name]), 1 - _KERNELS[node.op]
    channel = channel_axis(view, node, name)
    scale = _per_channel(constant, rank, channel, kernel.shape[axis])
    if scale is None:
        return False
    unit = [-1 if i == axis else 1 for i in range(kernel.ndim)]
    node.inputs[:2] = [name, view.graph.constant(kernel * scale.reshape(unit))]
    return True


def constants_meet(view: View, node: Node) -> bool:
    """x * a * b, x + a + b and (x + a) * b = x * b + a * b with a single constant each."""
    if node.op not in ("Mul", "Add") or (right := view.constant(node)) is None:
        return False
    source = view.source(node.inputs[0], *(("Mul", "Add") if node.op == "Mul" else ("Add",)))
    if source is None or (left := view.constant(source)) is None:
        return False
    if any(expands(view, each, source.inputs[0]) for each in (left, right)):
        return False
    if source.op == node.op:
        both = left * right if node.op == "Mul" else left + right
        node.inputs = [source.inputs[0], view.graph.constant(both)]
        return True
    source.op, source.inputs[1] = "Mul", node.inputs[1]
    view.graph.same_value(source.output)
    node.op, node.inputs[1] = "Add", view.graph.constant(left * right)
    return True
