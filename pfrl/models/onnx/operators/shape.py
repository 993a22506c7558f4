"""Operators that move values about: reshape, transpose, join, cut, pad, repeat."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid, Value, laid, plain, relaid, renamed, reshaped, widened
from pfrl.models.onnx.operators.base import BATCH, Run, counts, narrow, operator, unsupported
from pfrl.models.onnx.operators.pool import axes_of
from pfrl.models.onnx.reader import Node


@operator("Shape")
def _shape(run, node, x):
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def _size(run, node, x):
    return np.array(math.prod(x.shape), np.int64)


@operator("Transpose")
def _transpose(run, node, x):
    order = node.attributes.get("perm", range(len(x.shape))[::-1])
    return renamed(x, order)


@operator("Reshape")
def _reshape(run, node, x, shape=None):
    target = node.attributes["shape"] if shape is None else run.sizes(node, shape)
    if not node.attributes.get("allowzero", 0):
        target = [x.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return _to(run, node, x, target)


def _to(run: Run, node: Node, x: Laid, target: Sequence[Any]) -> Laid:
    if run.fixed is not None and x.origin is None:
        if run.examples == BATCH:
            run.targets[node.outputs[0]] = _for_examples(run.fixed, x.shape, list(target))
        target = [run.size(size) for size in run.targets[node.outputs[0]]]
    return reshaped(x, _filled(x.shape, list(target)))


def _filled(shape: Sequence[Any], target: list[Any]) -> list[Any]:
    """A target with the size that -1 stands for."""
    unknown = [place for place, size in enumerate(target) if isinstance(size, int) and size == -1]
    if unknown:
        rest = math.prod(size for place, size in enumerate(target) if place != unknown[0])
        target[unknown[0]] = math.prod(shape) // rest if rest is not None else 0
    return target


def _for_examples(fixed: int, shape: Sequence[int], target: list[int]) -> list[int]:
    """A target that is written for a fixed number of examples, for ``BATCH`` of them.

    The axis of the examples is the one behind as many elements as before. Whether it is merged
    with a neighbour, or split off again, is told by the other axes. A wrong guess is found when
    the network is compared with ONNX Runtime's answers to several examples.
    """
    along = [place for place, size in enumerate(shape) if counts(size)]
    if not along or any(map(counts, target)):
        return target
    place = along[0]
    written = [size // BATCH * fixed if i == place else size for i, size in enumerate(shape)]
    target = _filled(written, target)
    axis = _examples_axis(written, target, place, fixed)
    if axis is not None:
        target[axis] = target[axis] // fixed * BATCH
    return target


def _examples_axis(
    written: Sequence[int], target: Sequence[int], place: int, fixed: int
) -> int | None:
    """The axis of ``target`` that the examples are on, which are on ``place`` of ``written``."""
    if math.prod(target) != math.prod(written):
        return None
    if written[place] != fixed:
        for axis, size in enumerate(target):
            if size == fixed and [*target[:axis], *target[axis + 1 :]] == list(written):
                return axis
    products = [math.prod(target[:axis]) for axis in range(len(target) + 1)]
    behind = [axis for axis, size in enumerate(products) if size == math.prod(written[:place])]
    own = [axis for axis in behind if axis < len(target) and target[axis] == fixed]
    if own or not behind:
        return own[0] if own else None
    # Between two axes that stay: with what is split, or with the one before.
    split = len(target) - behind[-1] > len(written) - place - 1
    return behind[-1] if split or behind[-1] == 0 else behind[-1] - 1


@operator("Flatten")
def _flatten(run, node, x):
    axis = node.attributes.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return reshaped(x, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


@operator("Squeeze")
def _squeeze(run, node, x, axes=None):
    axes = axes_of(run, node, axes)
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    gone = {axis % len(x.shape) for axis in axes}
    return reshaped(x, [size for axis, size in enumerate(x.shape) if axis not in gone])


@operator("Unsqueeze")
def _unsqueeze(run, node, x, axes=None):
    axes = axes_of(run, node, axes) or []
    rank = len(x.shape) + len(axes)
    new, rest = {axis % rank for axis in axes}, iter(x.shape)
    return reshaped(x, [1 if axis in new else next(rest) for axis in range(rank)])


@operator("Expand")
def _expand(run, node, x, shape):
    target = run.sizes(node, shape)
    rank = max(len(target), len(x.shape))
    x, target = widened(x, rank), [1] * (rank - len(target)) + target
    sizes = [a if b == 1 else b for a, b in zip(x.shape, target, strict=True)]
    if run.fixed is not None and x.origin is None:
        # Along the examples nothing is repeated.
        sizes[0] = x.shape[0] if sizes[0] == run.fixed else sizes[0]
    array = jnp.broadcast_to(x.array, [sizes[axis] for axis in x.layout])
    return Laid(array, x.layout)


@operator("ConstantOfShape")
def _constant_of_shape(run, node, shape):
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    return laid(jnp.full(run.sizes(node, shape), value.item(), narrow(value.dtype)))


@operator("Concat")
def _concat(run, node, *values):
    rank = len(values[0].shape)
    axis = node.attributes["axis"] % rank
    if isinstance(values[0], np.ndarray) and all(isinstance(v, np.ndarray) for v in values):
        return np.concatenate(values, axis)
    layout = next((v.layout for v in values if isinstance(v, Laid) and v.origin is None), None)
    layout = layout or tuple(range(rank))
    if run.fixed is not None and axis != 0:
        values = [_repeated(value, values) for value in values]
    arrays = [jnp.asarray(relaid(value, layout)) for value in values]
    return Laid(jnp.concatenate(arrays, layout.index(axis)), layout)


def _repeated(value: Value, values: Sequence[Value]) -> Value:
    """What is the same for all examples, once for each of them."""
    most = max((v.shape[0] for v in values), key=lambda size: size if isinstance(size, int) else 2)
    if value.shape[0] != 1 or most == 1:
        return value
    array = plain(value)
    return laid(jnp.broadcast_to(array, (most, *array.shape[1:])))


@operator("Split")
def _split(run, node, x, sizes=None):
    axis = node.attributes.get("axis", 0) % len(x.shape)
    count, whole = len(node.outputs), x.shape[axis]
    if sizes is not None:
        sizes = run.sizes(node, sizes)
    elif node.attributes.get("split") is not None:
        sizes = node.attributes["split"]
    else:
        each = -(-whole // node.attributes.get("num_outputs", count))
        sizes = [min(each, whole - start) for start in range(0, whole, each)]
    ends = np.cumsum(sizes)
    place = x.layout.index(axis)
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    return [
        Laid(jax.lax.slice_in_dim(x.array, int(start), int(end), axis=place), x.layout)
        for start, end in zip(starts, ends, strict=True)
    ]


@operator("Slice")
def _slice(run, node, x, starts=None, ends=None, axes=None, steps=None):
    if starts is None:  # opset 9
        starts, ends = (node.attributes[key] for key in ("starts", "ends"))
        axes, steps = node.attributes.get("axes"), None
    else:
        starts, ends = run.sizes(node, starts), run.sizes(node, ends)
        axes = None if axes is None else run.known(node, axes, "axes").ravel().tolist()
        steps = None if steps is None else run.known(node, steps, "steps").ravel().tolist()
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index: list[Any] = [slice(None)] * len(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis % len(x.shape)
        size = x.shape[axis]
        if isinstance(size, int):
            first, stop, step = slice(start, end, step).indices(size)
            # A slice with a negative step that runs to the front ends at -1, which is no index.
            index[axis] = slice(first, None if stop < 0 else stop, step)
        elif (start, step) != (0, 1):
            raise unsupported(node, "cuts the examples")
    return Laid(x.array[tuple(index[axis] for axis in x.layout)], x.layout)


@operator("Pad")
def _pad(run, node, x, pads=None, value=None, axes=None):
    mode = node.attributes.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise unsupported(node, f"pads in the mode '{mode}'")
    pads = node.attributes["pads"] if pads is None else run.known(node, pads, "a padding").tolist()
    fill = node.attributes.get("value", 0.0)
    if value is not None:
        fill = float(run.known(node, value, "a value").reshape(()))
    rank = len(x.shape)
    axes = range(rank) if axes is None else run.known(node, axes, "axes").tolist()
    config = [(0, 0)] * rank
    for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        config[axis % rank] = (int(low), int(high))
    config = [config[axis] for axis in x.layout]
    if mode != "constant":
        return Laid(jnp.pad(x.array, config, mode=mode), x.layout)
    number = jnp.asarray(fill, x.array.dtype)
    return Laid(jax.lax.pad(x.array, number, [(*pair, 0) for pair in config]), x.layout)


@operator("Tile")
def _tile(run, node, x, repeats):
    counts = run.sizes(node, repeats)
    return Laid(jnp.tile(x.array, [counts[axis] for axis in x.layout]), x.layout)


@operator("DepthToSpace")
def _depth_to_space(run, node, x):
    """Arxiv 1609.05158; the order of the channels is the mode's."""
    block = node.attributes["blocksize"]
    n, c, h, w = x.shape
    if node.attributes.get("mode", "DCR") == "DCR":
        shape, order = (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        shape, order = (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)
    y = renamed(reshaped(x, shape), order)
    return reshaped(y, (n, c // block**2, h * block, w * block))


@operator("SpaceToDepth")
def _space_to_depth(run, node, x):
    block = node.attributes["blocksize"]
    n, c, h, w = x.shape
    y = renamed(reshaped(x, (n, c, h // block, block, w // block, block)), (0, 3, 5, 1, 2, 4))
    return reshaped(y, (n, c * block**2, h // block, w // block))


@operator("Trilu")
def _trilu(run, node, x, k=None):
    k = 0 if k is None else int(run.known(node, k, "a diagonal").reshape(()))
    function = jnp.triu if node.attributes.get("upper", 1) else jnp.tril
    return laid(function(plain(x), k))
