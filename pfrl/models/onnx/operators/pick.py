"""Operators that take, or write, elements at places that are given."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid, laid, plain, reshaped
from pfrl.models.onnx.operators.base import BATCH, Run, counts, operator, unsupported
from pfrl.models.onnx.reader import Node


@operator("Gather")
def _gather(run, node, x, indices):
    axis = node.attributes.get("axis", 0) % len(x.shape)
    if isinstance(indices, Laid):
        places = jnp.asarray(plain(indices))
        size = x.shape[axis]
        places = jnp.where(places < 0, places + size, places)
        return laid(jnp.take(jnp.asarray(plain(x)), places, axis, mode="clip"))
    if (found := _of_each_example(run, x, indices)) is not None:
        return found
    places = np.where(indices < 0, indices + x.shape[axis], indices)
    place = x.layout.index(axis)
    if places.ndim == 0:
        array = jax.lax.index_in_dim(x.array, int(places), place, keepdims=False)
        rest = [each for each in range(len(x.shape)) if each != axis]
        return Laid(array, tuple(rest.index(each) for each in x.layout if each != axis))
    found = Laid(jnp.take(x.array, places.ravel(), place, mode="clip"), x.layout)
    if places.ndim == 1:
        return found
    return reshaped(found, [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def _of_each_example(run: Run, x: Laid, indices: np.ndarray) -> Laid | None:
    """Elements of examples that were flattened together, the same of each of them.

    PyTorch's newer exporter writes ``as_strided`` so, and with it global pooling in front of a
    transposition (ConvNeXt): all elements in their order, which is a reshape.
    """
    whole, examples = x.before, BATCH if run.fixed is None else run.fixed
    if whole is None or len(x.shape) > 1 or indices.shape[:1] != (examples,):
        return None
    first, size = whole.shape[0], math.prod(whole.shape[1:])
    if first != run.examples:
        return None
    places = indices.reshape(examples, -1) - size * np.arange(examples)[:, None]
    if (places != places[0]).any() or places.min() < 0 or places.max() >= size:
        return None
    if np.array_equal(places[0], np.arange(size)):
        return reshaped(whole, [first, *indices.shape[1:]])
    rows = reshaped(whole, [first, size])
    array = jnp.take(rows.array, places[0], rows.layout.index(1), mode="clip")
    return reshaped(rows._replace(array=array), [first, *indices.shape[1:]])


@operator("GatherND")
def _gather_nd(run, node, x, indices):
    axes = node.attributes.get("batch_dims", 0)
    if axes == 0 and isinstance(indices, np.ndarray) and counts(indices.shape[0]):
        indices, axes = _without_examples(node, indices), 1
        indices = np.broadcast_to(indices, (x.shape[0], *indices.shape))
    gather = lambda array, places: array[tuple(jnp.moveaxis(places, -1, 0))]  # noqa: E731
    for _ in range(axes):
        gather = jax.vmap(gather)
    if axes == 0 and isinstance(indices, np.ndarray) and indices.shape[-1] == 1:
        return _gather(run, node, x, indices[..., 0])
    return laid(gather(jnp.asarray(plain(x)), jnp.asarray(plain(indices))))


def _without_examples(node: Node, indices: np.ndarray) -> np.ndarray:
    """Places in every example, of places whose first number is that of the example."""
    own = np.arange(len(indices)).reshape(-1, *[1] * (indices.ndim - 2))
    if (indices[..., 0] != own).any() or (indices[..., 1:] != indices[:1, ..., 1:]).any():
        raise unsupported(node, "takes something else of every example")
    return indices[0, ..., 1:]


@operator("ScatterND")
def _scatter_nd(run, node, x, indices, updates):
    reduction = node.attributes.get("reduction", "none")
    if any(counts(size) for size in x.shape[: indices.shape[-1]]):
        raise unsupported(node, "writes to chosen examples")
    places = tuple(np.moveaxis(run.known(node, indices, "places"), -1, 0))
    at = jnp.asarray(plain(x)).at[places]
    write = {"none": at.set, "add": at.add, "mul": at.multiply, "max": at.max, "min": at.min}
    return laid(write[reduction](jnp.asarray(plain(updates))))


@operator("GatherElements")
def _gather_elements(run, node, x, indices):
    return laid(gather_elements(jnp, jnp.asarray(plain(x)), jnp.asarray(plain(indices)), node))


def gather_elements(numpy: Any, array: Any, places: Any, node: Node) -> Any:
    """Of arrays of NumPy or JAX; ``places`` may have fewer of every other axis."""
    axis = node.attributes.get("axis", 0) % array.ndim
    cut = tuple(slice(None if each == axis else n) for each, n in enumerate(places.shape))
    return numpy.take_along_axis(array[cut], places, axis)


@operator("ScatterElements")
def _scatter_elements(run, node, x, indices, updates):
    axis = node.attributes.get("axis", 0)
    if node.attributes.get("reduction", "none") != "none":
        raise unsupported(node, "adds to what it writes over")
    array, places, new = (jnp.asarray(plain(each)) for each in (x, indices, updates))
    return laid(jnp.put_along_axis(array, places, new, axis, inplace=False, mode="clip"))
