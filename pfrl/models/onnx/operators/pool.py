"""Operators that reduce: pooling windows, and sums, means and extremes over whole axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid, laid, plain, relaid
from pfrl.models.onnx.operators.base import Run, operator, unsupported
from pfrl.models.onnx.operators.contract import last, padding, window_counts
from pfrl.models.onnx.reader import Node


def _windows(node: Node, x: Laid) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Windows, strides and padding, a last window that reaches over the edge included."""
    attributes, sizes = node.attributes, x.shape[2:]
    windows, ones = list(attributes["kernel_shape"]), [1] * len(sizes)
    strides = list(attributes.get("strides", ones))
    if any(step != 1 for step in attributes.get("dilations", ones)):
        raise unsupported(node, "pools with a dilated window")
    pads = padding(node, sizes, windows, strides)
    if not attributes.get("ceil_mode", 0):
        return windows, strides, pads
    reaching = []
    for axis, (low, high) in enumerate(pads):
        whole = sizes[axis] + low + high
        steps = -(-(whole - windows[axis]) // strides[axis])
        if steps * strides[axis] >= sizes[axis] + low:
            steps -= 1  # a window that would begin behind the image
        more = max(steps * strides[axis] + windows[axis] - whole, 0)
        reaching.append((low, high + more))
    return windows, strides, reaching


def _reduce_window(x: Laid, start: Any, function: Callable, how: tuple) -> jax.Array:
    windows, strides, pads = how
    return jax.lax.reduce_window(
        relaid(x, last(len(x.shape))),
        start,
        function,
        (1, *windows, 1),
        (1, *strides, 1),
        ((0, 0), *pads, (0, 0)),
    )


@operator("MaxPool")
def _max_pool(run, node, x):
    if len(node.outputs) > 1 and node.outputs[1]:
        raise unsupported(node, "hands out the places of the largest values")
    y = _reduce_window(x, -jnp.inf, jax.lax.max, _windows(node, x))
    return Laid(y, last(len(x.shape)))


@operator("AveragePool")
def _average_pool(run, node, x):
    windows, strides, pads = how = _windows(node, x)
    total = _reduce_window(x, 0.0, jax.lax.add, how)
    inside = [tuple(pad) for pad in padding(node, x.shape[2:], windows, strides)]
    if node.attributes.get("count_include_pad", 0):
        # What lies behind the padding, where the last window ends, does not count even so.
        sizes = [size + sum(pad) for size, pad in zip(x.shape[2:], inside, strict=True)]
        reach = [(0, high - own[1]) for (_, high), own in zip(pads, inside, strict=True)]
        counts = window_counts(sizes, windows, strides, reach)
    else:
        counts = window_counts(x.shape[2:], windows, strides, pads)
    if (counts == counts.flat[0]).all():
        return Laid(total * np.float32(1 / counts.flat[0]), last(len(x.shape)))
    return Laid(total * (1 / counts).astype(np.float32)[None, ..., None], last(len(x.shape)))


@operator("GlobalAveragePool")
def _global_average_pool(run, node, x):
    return _reduced(jnp.mean, x, range(2, len(x.shape)), True)


@operator("GlobalMaxPool")
def _global_max_pool(run, node, x):
    return _reduced(jnp.max, x, range(2, len(x.shape)), True)


def moments(x: jax.Array, axis: Any, keepdims: bool = True) -> tuple[jax.Array, jax.Array]:
    """Mean and variance, the latter as the mean of squares less the square of the mean, as Flax
    does: channels that are removed are zeros in both, and would not be zeros less their mean."""
    mean = x.mean(axis, keepdims=keepdims)
    return mean, jnp.maximum((x * x).mean(axis, keepdims=keepdims) - mean * mean, 0.0)


_REDUCTIONS: dict[str, Callable[..., jax.Array]] = {
    "ReduceMean": jnp.mean,
    "Variance": lambda x, axis, keepdims: moments(x, axis, keepdims)[1],
    "ReduceSum": jnp.sum,
    "ReduceMax": jnp.max,
    "ReduceMin": jnp.min,
    "ReduceProd": jnp.prod,
    "ReduceL1": lambda x, axis, keepdims: jnp.abs(x).sum(axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: jnp.sqrt((x * x).sum(axis, keepdims=keepdims)),
    "ReduceSumSquare": lambda x, axis, keepdims: (x * x).sum(axis, keepdims=keepdims),
    "ReduceLogSum": lambda x, axis, keepdims: jnp.log(x.sum(axis, keepdims=keepdims)),
    "ReduceLogSumExp": jax.nn.logsumexp,
}


@operator(*_REDUCTIONS)
def _reduce(run, node, x, axes=None):
    axes = axes_of(run, node, axes)
    if axes is None:
        if node.attributes.get("noop_with_empty_axes", 0):
            return x
        axes = range(len(x.shape))
    keep = bool(node.attributes.get("keepdims", 1))
    return _reduced(_REDUCTIONS[node.op], x, [axis % len(x.shape) for axis in axes], keep)


def axes_of(run: Run, node: Node, axes: Any) -> list[int] | None:
    """Axes from an operand or, in older files, an attribute; None if there are none."""
    if axes is not None:
        found = [int(axis) for axis in run.known(node, axes, "axes").ravel()]
        return found or None
    return node.attributes.get("axes")


def _reduced(function: Callable[..., jax.Array], x: Laid, axes: Sequence[int], keep: bool) -> Laid:
    """A reduction where the axes lie; what remains keeps its order."""
    places = tuple(place for place, axis in enumerate(x.layout) if axis in axes)
    y = function(x.array, axis=places, keepdims=keep)
    if keep:
        return Laid(y, x.layout)
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    return Laid(y, tuple(rest.index(axis) for axis in x.layout if axis in rest))


@operator("ArgMax", "ArgMin")
def _arg(run, node, x):
    attributes = node.attributes
    if attributes.get("select_last_index", 0):
        raise unsupported(node, "takes the last of several places")
    axis = attributes.get("axis", 0) % len(x.shape)
    function = jnp.argmax if node.op == "ArgMax" else jnp.argmin
    keep = bool(attributes.get("keepdims", 1))
    return laid(function(plain(x), axis=axis, keepdims=keep))


@operator("CumSum")
def _cumsum(run, node, x, axis):
    if node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        raise unsupported(node, "runs backwards or leaves out the present place")
    axis = int(run.known(node, axis, "an axis").reshape(()))
    return laid(jnp.cumsum(plain(x), axis=axis))


@operator("TopK")
def _top_k(run, node, x, count=None):
    attributes = node.attributes
    k = attributes["k"] if count is None else int(run.known(node, count, "a count").reshape(()))
    axis = attributes.get("axis", -1) % len(x.shape)
    array = jnp.moveaxis(jnp.asarray(plain(x)), axis, -1)
    largest = attributes.get("largest", 1)
    values, places = jax.lax.top_k(array if largest else -array, k)
    values = values if largest else -values
    return [laid(jnp.moveaxis(each, -1, axis)) for each in (values, places)]
