"""Rewriting a graph until it is as lean as one written by hand.

A rule looks at one node and its neighbours and returns whether it changed
anything; the rules are applied until none does. A value that is used twice, or
is the result of the network, is never folded away.
"""

import math
from collections.abc import Callable

import numpy as np

from pfrl.deploy.operators.fold import (
    affine_of_input,
    constants_meet,
    expands,
    scale_into_kernel,
    scale_of_input,
    shift_into_bias,
)
from pfrl.deploy.operators.graph import Node, OperatorGraph, View

Rule = Callable[[View, Node], bool]


def fuse(graph: OperatorGraph) -> OperatorGraph:
    """Applies the rules to ``graph``, in place, and removes what no output needs."""
    changed = True
    while changed:
        _remove_dead(graph)
        view = View(graph)
        changed = any(
            rule(view, node) for node in graph.nodes for rule in _RULES_OF.get(node.op, ())
        )
    for node in graph.nodes:
        if node.op == "Clip" and node.attributes == {"min": 0.0}:
            node.op, node.attributes = "Relu", {}
    return graph


def _remove_dead(graph: OperatorGraph) -> None:
    alive, kept = {*graph.outputs}, []
    for node in reversed(graph.nodes):
        if node.output in alive:
            alive.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


def _neutral(view: View, node: Node) -> bool:
    """x * 1, x + 0, clips without bounds and reshapes to the same shape are x."""
    name = node.inputs[0]
    if node.op in ("Mul", "Add"):
        constant = view.constant(node)
        if constant is None or expands(view, constant, name):
            return False
        neutral = 1.0 if node.op == "Mul" else 0.0
        same = bool((constant.astype(np.float32) == np.float32(neutral)).all())
    elif node.op == "Clip":
        same = not any(map(math.isfinite, node.attributes.values()))
    elif node.op == "Reshape":
        same = view.graph.shapes[name] == view.graph.shapes[node.output]
    else:
        return False
    return same and view.bypass(node, name)


def _clips_meet(view: View, node: Node) -> bool:
    """min(max(x, low), high) is one Clip."""
    if node.op != "Clip" or (source := view.source(node.inputs[0], "Clip")) is None:
        return False
    low = max(source.attributes.get("min", -math.inf), node.attributes.get("min", -math.inf))
    high = min(source.attributes.get("max", math.inf), node.attributes.get("max", math.inf))
    if low > high:
        return False
    bounds = {"min": low, "max": high}
    node.attributes = {key: value for key, value in bounds.items() if math.isfinite(value)}
    node.inputs = source.inputs
    return True


def _slices_meet(view: View, node: Node) -> bool:
    """Slices along different axes are one."""
    if node.op != "Slice" or (source := view.source(node.inputs[0], "Slice")) is None:
        return False
    if set(node.attributes["axes"]) & set(source.attributes["axes"]):
        return False
    for key, values in source.attributes.items():
        node.attributes[key] = values + node.attributes[key]
    node.inputs = source.inputs
    return True


def _pad_into_conv(view: View, node: Node) -> bool:
    """A convolution pads with zeros by itself."""
    if node.op != "Conv" or (source := view.source(node.inputs[0], "Pad")) is None:
        return False
    pads = np.reshape(source.attributes["pads"], (2, -1))
    space = view.graph.spatial_axes(pads.shape[1])
    if source.attributes["value"] != 0 or np.delete(pads, space, axis=1).any():
        return False
    node.attributes["pads"] = (pads[:, space].ravel() + node.attributes["pads"]).tolist()
    node.inputs[0] = source.inputs[0]
    return True


def _sparse_shortcut(view: View, node: Node) -> bool:
    """Strided pixels padded with zero channels are a 1×1 convolution with zeros and ones.

    So the shortcut of option A does the same arithmetic, but stays in the
    blocked layout of the runtime's convolutions, which Slice and Pad would
    leave and enter again.
    """
    if node.op != "Pad" or (source := view.source(node.inputs[0], "Slice")) is None:
        return False
    before, cut = view.graph.shapes[source.inputs[0]], source.attributes
    pads = np.reshape(node.attributes["pads"], (2, -1))
    channel, space = view.graph.channel_axis(len(before)), view.graph.spatial_axes(len(before))
    if len(before) != 4 or node.attributes["value"] != 0 or pads[:, [0, *space]].any():
        return False
    if (pads < 0).any() or any(cut["starts"]) or not set(cut["axes"]) <= set(space):
        return False
    steps = dict(zip(cut["axes"], cut["steps"], strict=True))
    sizes = view.graph.shapes[node.output]
    if any(sizes[axis] != -(-before[axis] // steps.get(axis, 1)) for axis in space):
        return False
    kernel = np.eye(sizes[channel], before[channel], -int(pads[0, channel]))[:, :, None, None]
    node.op, node.inputs = "Conv", [source.inputs[0], view.graph.constant(kernel)]
    node.moves = True
    node.attributes = {
        "kernel_shape": [1, 1],
        "strides": [steps.get(axis, 1) for axis in space],
        "pads": [0, 0, 0, 0],
        "dilations": [1, 1],
        "group": 1,
    }
    return True


def _reshapes_meet(view: View, node: Node) -> bool:
    if node.op != "Reshape" or (source := view.source(node.inputs[0], "Reshape")) is None:
        return False
    node.inputs = source.inputs
    return True


def _transpose_into_rows(view: View, node: Node) -> bool:
    """A product with a flattened, transposed value: the kernel's rows are permuted instead."""
    if node.op != "Gemm" or (flatten := view.source(node.inputs[0], "Reshape")) is None:
        return False
    transpose, kernel = view.source(flatten.inputs[0], "Transpose"), view.constant(node)
    if transpose is None or kernel is None:
        return False
    order, shape = transpose.attributes["perm"], view.graph.shapes[transpose.output]
    if order[0] != 0 or math.prod(shape[1:]) != kernel.shape[0]:
        return False
    inverse = np.argsort(order[1:])
    rows = kernel.reshape(*shape[1:], -1).transpose(*inverse, len(inverse))
    node.inputs[1] = view.graph.constant(rows.reshape(kernel.shape))
    flatten.inputs = transpose.inputs
    return True


def _mean(view: View, node: Node) -> bool:
    """A scaled sum is a mean: GlobalAveragePool over the spatial axes, the rest stays a scale."""
    if node.op != "Mul" or (source := view.source(node.inputs[0], "ReduceSum")) is None:
        return False
    factor = view.constant(node)
    if factor is None or factor.size != 1 or factor.ndim:
        return False
    graph, axes = view.graph, source.attributes["axes"]
    shape = graph.shapes[source.inputs[0]]
    rest = factor * math.prod(shape[axis] for axis in axes)
    if axes != graph.spatial_axes(len(shape)) or len(shape) < 3:
        if np.float32(rest) != 1:
            return False
        source.op = "ReduceMean"
        return view.bypass(node, source.output)
    pooled = [1 if axis in axes else size for axis, size in enumerate(shape)]
    position = graph.nodes.index(source)
    name = graph.node("GlobalAveragePool", source.inputs, pooled)
    pool = graph.nodes.pop()
    graph.nodes.insert(position, pool)
    left = [size for axis, size in enumerate(shape) if axis not in axes]
    source.op, source.inputs, source.attributes = "Reshape", [name], {"shape": left}
    # Scaled by the rest both are the value that the product was.
    graph.same_value(name, node.output if np.float32(rest) == 1 else None)
    graph.same_value(source.output, node.output if np.float32(rest) == 1 else None)
    node.inputs[1] = graph.constant(rest)
    return True


def _scale_before_reshape(view: View, node: Node) -> bool:
    """A sum that keeps its axes is scaled before they are put back."""
    if node.op != "Mul" or (reshape := view.source(node.inputs[0], "Reshape")) is None:
        return False
    factor = view.constant(node)
    if factor is None or factor.ndim or view.source(reshape.inputs[0], "ReduceSum") is None:
        return False
    graph = view.graph
    graph.shapes[reshape.output] = graph.shapes[reshape.inputs[0]]
    reshape.op, reshape.inputs, reshape.attributes = "Mul", [reshape.inputs[0], node.inputs[1]], {}
    graph.same_value(reshape.output, node.output)
    node.op, node.inputs = "Reshape", [reshape.output]
    node.attributes = {"shape": list(graph.shapes[node.output])}
    return True


_RULES: tuple[tuple[str, Rule], ...] = (
    ("Mul Add Clip Reshape", _neutral),
    ("Mul Add", constants_meet),
    ("Mul", _scale_before_reshape),
    ("Mul", _mean),
    ("Mul", scale_into_kernel),
    ("Add", shift_into_bias),
    ("Conv Gemm MatMul", scale_of_input),
    ("Conv Gemm MatMul", affine_of_input),
    ("Clip", _clips_meet),
    ("Slice", _slices_meet),
    ("Conv", _pad_into_conv),
    ("Pad", _sparse_shortcut),
    ("Reshape", _reshapes_meet),
    ("Gemm", _transpose_into_rows),
)
"""Rules, each with the operators of the nodes that it looks at, in the order in which they are
tried."""
_RULES_OF: dict[str, list[Rule]] = {
    op: [rule for ops, rule in _RULES if op in ops.split()]
    for op in {op for ops, _ in _RULES for op in ops.split()}
}
