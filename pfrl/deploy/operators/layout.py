"""Operators for the JAX primitives that move values about: reshape, transpose, slice, pad, join."""

from collections.abc import Sequence

import numpy as np

from pfrl.deploy.operators.graph import OperatorGraph, Tensor
from pfrl.deploy.operators.ops import Value, lowers, pointwise, unsupported
from pfrl.deploy.operators.program import Operation
from pfrl.graph.labelled.program import depends_on_batch
from pfrl.graph.labelled.reshaping import axis_groups


@lowers("transpose")
def _transpose(graph, operation, inputs):
    """Renames axes; nothing is moved until an operation asks for another layout."""
    (tensor,), order = inputs, tuple(operation.params["permutation"])
    shape = tuple(tensor.shape[axis] for axis in order)
    return Tensor(tensor.name, shape, tuple(order.index(axis) for axis in tensor.layout))


@lowers("reshape", "squeeze", "expand_dims")
def _reshape(graph, operation, inputs):
    if operation.params.get("dimensions") is not None and operation.primitive == "reshape":
        raise unsupported(operation, "permutes axes; transpose first")
    return reshaped(graph, operation, inputs[0], operation.outputs[0].shape)


def reshaped(
    graph: OperatorGraph, operation: Operation, tensor: Tensor, shape: Sequence[int]
) -> Tensor:
    """``tensor`` in another shape, axes that are neither split nor merged staying where they lie.

    The two shapes fall into groups of axes with equal products; a group is moved
    as one, so that only merged axes need lie side by side, in JAX's order.
    """
    if sum(depends_on_batch(size) for size in shape) > 1:
        raise unsupported(operation, f"makes a shape {tuple(shape)} with two batch axes")
    groups = axis_groups(tensor.shape, shape)
    place = {axis: position for position, axis in enumerate(tensor.layout)}
    keys, last = [], -1.0
    for before, _ in groups:
        last = min((place[axis] for axis in before), default=last + 0.5)
        keys.append(last)
    order = sorted(range(len(groups)), key=keys.__getitem__)
    tensor = graph.relay(tensor, [axis for group in order for axis in groups[group][0]])
    layout = tuple(axis for group in order for axis in groups[group][1])
    sizes = [shape[axis] for axis in layout]
    if sizes == list(graph.shapes[tensor.name]):
        return Tensor(tensor.name, tuple(shape), layout)
    name = graph.node("Reshape", [tensor.name], sizes, shape=sizes)
    return Tensor(name, tuple(shape), layout)


@lowers("broadcast_in_dim")
def _broadcast_in_dim(graph, operation, inputs):
    (tensor,), shape = inputs, operation.outputs[0].shape
    unit = [1] * len(shape)
    for axis, size in zip(operation.params["broadcast_dimensions"], tensor.shape, strict=True):
        unit[axis] = size
    tensor = reshaped(graph, operation, tensor, unit)
    if tensor.shape == shape:
        return tensor
    if any(depends_on_batch(size) and tensor.shape[axis] == 1 for axis, size in enumerate(shape)):
        raise unsupported(operation, "repeats a value along the batch")
    sizes = [shape[axis] for axis in tensor.layout]
    target = [1 if depends_on_batch(size) else size for size in sizes]
    return Tensor(
        graph.node("Expand", [tensor.name], sizes, shape=target), tuple(shape), tensor.layout
    )


@lowers("slice")
def _slice(graph, operation, inputs):
    params, rank = operation.params, len(inputs[0].shape)
    steps = params["strides"] or (1,) * rank
    return _cut(graph, inputs[0], params["start_indices"], params["limit_indices"], steps)


def _cut(
    graph: OperatorGraph,
    tensor: Tensor,
    starts: Sequence[int],
    limits: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    ranges = [range(*map(int, bounds)) for bounds in zip(starts, limits, steps, strict=True)]
    shape = tuple(map(len, ranges))
    cut = [axis for axis in tensor.layout if shape[axis] != tensor.shape[axis]]
    if not cut:
        return tensor
    name = graph.node(
        "Slice",
        [tensor.name],
        [shape[axis] for axis in tensor.layout],
        starts=[ranges[axis].start for axis in cut],
        ends=[ranges[axis].stop for axis in cut],
        axes=[tensor.layout.index(axis) for axis in cut],
        steps=[ranges[axis].step for axis in cut],
    )
    return Tensor(name, shape, tensor.layout)


@lowers("split")
def _split(graph, operation, inputs):
    (tensor,), axis = inputs, operation.params["axis"]
    ends = np.cumsum(operation.params["sizes"])
    pieces, steps = [], (1,) * len(tensor.shape)
    for size, end in zip(operation.params["sizes"], ends, strict=True):
        starts, limits = [0] * len(tensor.shape), list(tensor.shape)
        starts[axis], limits[axis] = int(end - size), int(end)
        pieces.append(_cut(graph, tensor, starts, limits, steps))
    return pieces


@lowers("pad")
def _pad(graph, operation, inputs):
    tensor, value = inputs
    config = operation.params["padding_config"]
    if isinstance(value, Tensor) or isinstance(tensor, np.ndarray):
        raise unsupported(operation, "pads with a computed value")
    if any(interior for *_, interior in config):
        raise unsupported(operation, "pads between the elements")
    starts = [max(0, -low) for low, _, _ in config]
    limits = [size + min(0, high) for size, (_, high, _) in zip(tensor.shape, config, strict=True)]
    tensor = _cut(graph, tensor, starts, limits, (1,) * len(starts))
    before = [max(0, int(low)) for low, _, _ in config]
    after = [max(0, int(high)) for _, high, _ in config]
    return _padded(graph, tensor, before, after, float(value))


def _padded(graph: OperatorGraph, tensor: Tensor, before, after, value: float) -> Tensor:
    if not any((*before, *after)):
        return tensor
    sizes = zip(tensor.shape, before, after, strict=True)
    shape = tuple(size + low + high for size, low, high in sizes)
    pads = [padding[axis] for padding in (before, after) for axis in tensor.layout]
    sizes = [shape[axis] for axis in tensor.layout]
    return Tensor(
        graph.node("Pad", [tensor.name], sizes, pads=pads, value=value), shape, tensor.layout
    )


@lowers("concatenate")
def _concatenate(graph, operation, inputs):
    """Parts in the layout of the first; a constant at an end that is one number is a pad."""
    axis, shape = operation.params["dimension"], operation.outputs[0].shape
    parts: list[Value] = list(inputs)
    first = next(part for part in parts if isinstance(part, Tensor))
    if sum(isinstance(part, Tensor) for part in parts) == 1 and _one_number(parts):
        position = next(i for i, part in enumerate(parts) if isinstance(part, Tensor))
        before, after = [0] * len(shape), [0] * len(shape)
        before[axis] = sum(part.shape[axis] for part in parts[:position])
        after[axis] = sum(part.shape[axis] for part in parts[position + 1 :])
        others = [part for part in parts if isinstance(part, np.ndarray)]
        return _padded(graph, first, before, after, float(others[0].flat[0]) if others else 0.0)
    if not all(isinstance(part, Tensor) for part in parts):
        return _joined_constants(graph, parts, axis, shape)
    return _joined(graph, inputs, axis, shape)


def _joined_constants(
    graph: OperatorGraph, parts: Sequence[Value], axis: int, shape: Sequence[int]
) -> Tensor:
    """Constants beside what depends on the images, as a class token beside patches.

    Zeros stand in for the constants, which are then added: as constants they may meet others.
    """
    sizes = [1 if depends_on_batch(size) else size for size in shape]
    constants, tensors, position = np.zeros(sizes), None, 0
    for part in parts:
        before, after = [0] * len(shape), [0] * len(shape)
        before[axis] = position
        position += part.shape[axis]
        after[axis] = shape[axis] - position
        if isinstance(part, Tensor):
            part = _padded(graph, part, before, after, 0.0)
            tensors = part if tensors is None else pointwise(graph, "Add", [tensors, part], shape)
        else:
            place = [slice(None)] * len(shape)
            place[axis] = slice(before[axis], position)
            constants[tuple(place)] = part
    assert tensors is not None  # else the concatenation is a constant
    return pointwise(graph, "Add", [tensors, constants], shape)


@lowers("stack")
def _stack(graph, operation, inputs):
    """A concatenation of what gets a new axis of size 1."""
    if not all(isinstance(part, Tensor) for part in inputs):
        raise unsupported(operation, "joins images and constants")
    axis, shape = operation.params["axis"], list(operation.outputs[0].shape)
    shape[axis] = 1
    parts = [reshaped(graph, operation, part, shape) for part in inputs]
    return _joined(graph, parts, axis, operation.outputs[0].shape)


def _joined(
    graph: OperatorGraph, parts: Sequence[Tensor], axis: int, shape: Sequence[int]
) -> Tensor:
    layout = parts[0].layout
    names = [graph.relay(part, layout).name for part in parts]
    sizes = [shape[index] for index in layout]
    return Tensor(graph.node("Concat", names, sizes, axis=layout.index(axis)), tuple(shape), layout)


def _one_number(parts: Sequence[Value]) -> bool:
    numbers = np.concatenate(
        [part.ravel() for part in parts if isinstance(part, np.ndarray)] or [[]]
    )
    return bool((numbers == numbers[:1]).all())


@lowers("gather")
def _gather(graph, operation, inputs):
    """Whole slices along one axis by constant indices: Slice if they are a range, else Gather."""
    tensor, indices = inputs
    numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
    if (
        isinstance(indices, Tensor)
        or isinstance(tensor, np.ndarray)
        or len(numbers.start_index_map) != 1
        or numbers.operand_batching_dims
        or indices.shape[-1] != 1
    ):
        raise unsupported(operation, "looks values up by computed or by several indices")
    (axis,) = numbers.start_index_map
    rest = [size for index, size in enumerate(tensor.shape) if index != axis]
    collapsed = tuple(numbers.collapsed_slice_dims) == (axis,)
    batch_axes = [i for i in range(indices.ndim - 1 + len(rest)) if i not in numbers.offset_dims]
    if (
        not collapsed
        or [size for index, size in enumerate(sizes) if index != axis] != rest
        or indices.ndim > 2
        or (indices.ndim == 2 and batch_axes != [axis])
    ):
        raise unsupported(operation, "takes more than whole slices along one axis")
    chosen = indices.ravel().astype(np.int64)
    if not np.isin(chosen, range(tensor.shape[axis])).all():
        raise unsupported(operation, f"has indices outside 0..{tensor.shape[axis] - 1}")
    taken = _take(graph, tensor, axis, chosen)
    if indices.ndim == 2:
        return taken
    return reshaped(graph, operation, taken, operation.outputs[0].shape)


def _take(graph: OperatorGraph, tensor: Tensor, axis: int, indices: np.ndarray) -> Tensor:
    steps = set(np.diff(indices).tolist())
    if len(steps) <= 1 and min(steps, default=1) > 0:
        starts, limits, strides = (
            [0] * len(tensor.shape),
            list(tensor.shape),
            [1] * len(tensor.shape),
        )
        starts[axis], limits[axis] = int(indices[0]), int(indices[-1]) + 1
        strides[axis] = steps.pop() if steps else 1
        return _cut(graph, tensor, starts, limits, strides)
    shape = (*tensor.shape[:axis], len(indices), *tensor.shape[axis + 1 :])
    sizes = [shape[index] for index in tensor.layout]
    names = [tensor.name, graph.constant(indices)]
    name = graph.node("Gather", names, sizes, axis=tensor.layout.index(axis))
    return Tensor(name, shape, tensor.layout)
