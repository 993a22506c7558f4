"""Arrays that lie in memory in another order of axes than their ONNX file says.

An ONNX file has channels first. Everything else here has them last, and processors and methods
like it so. A ``Laid`` array is stored as its reader wants it, and an operation that does not care
passes the order on: of a whole network of convolutions nothing is ever transposed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.labelled.reshaping import axis_groups


class Laid(NamedTuple):
    """An array with the axis of the file behind each of its own.

    Attributes:
      array: as stored.
      layout: ``(0, 2, 3, 1)`` for ``[N, C, H, W]`` of the file that is stored as ``[N, H, W, C]``.
      origin: the variable that it is, axes at most renamed; None for anything else.
      before: what it was before its axes were split or merged; None if they were not.
    """

    array: jax.Array
    layout: tuple[int, ...]
    origin: str | None = None
    before: "Laid | None" = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """In the order of the file."""
        return tuple(self.array.shape[self.layout.index(axis)] for axis in range(len(self.layout)))


Value = Laid | np.ndarray
"""An array that is computed with, or one that is known."""
Some = TypeVar("Some", Laid, np.ndarray)


def laid(array: Any, layout: Sequence[int] | None = None) -> Laid:
    """An array as stored in ``layout``; in the order of the file if that is None."""
    return Laid(array, tuple(range(np.ndim(array))) if layout is None else tuple(layout))


def relaid(value: Value, layout: Sequence[int]) -> Any:
    """The array of a value, stored in ``layout``."""
    if isinstance(value, np.ndarray):
        return value.transpose(tuple(layout))
    order = [value.layout.index(axis) for axis in layout]
    return value.array if order == sorted(order) else jnp.transpose(value.array, order)


def plain(value: Value) -> Any:
    """The array of a value in the order of the file."""
    return relaid(value, range(len(value.shape)))


def renamed(value: Some, order: Sequence[int]) -> Some:
    """The axes of the file in another order; nothing is moved."""
    if isinstance(value, np.ndarray):
        return value.transpose(tuple(order))
    order = list(order)
    layout = tuple(order.index(axis) for axis in value.layout)
    return value._replace(layout=layout)


def widened(value: Any, rank: int) -> Any:
    """With axes of size 1 in front, up to ``rank`` of them."""
    more = rank - len(value.shape)
    if more <= 0:
        return value
    if isinstance(value, np.ndarray):
        return value.reshape((1,) * more + value.shape)
    array = value.array.reshape((1,) * more + value.array.shape)
    return Laid(array, (*range(more), *(axis + more for axis in value.layout)))


def pointwise(function: Callable[..., Any], *values: Value) -> Laid:
    """``function`` of arrays that broadcast, stored as the largest of them is."""
    rank = max(len(value.shape) for value in values)
    layout = tuple(range(rank))
    for value in values:
        if isinstance(value, Laid) and len(value.layout) == rank and value.origin is None:
            layout = value.layout
            if layout != tuple(range(rank)):
                break
    arrays = [_number(value) for value in values]
    for place, value in enumerate(values):
        if arrays[place] is None:
            arrays[place] = relaid(widened(value, rank), layout)
    return Laid(function(*arrays), layout)


def _number(value: Value) -> Any:
    """A known array of one element as a scalar of its type: then no axis is read into it."""
    if isinstance(value, np.ndarray) and value.size == 1:
        return np.asarray(value).reshape(())[()]
    return None


def reshaped(value: Laid, shape: Sequence[Any]) -> Laid:
    """A value in another shape, axes that are neither split nor merged staying where they lie.

    Both shapes fall into the smallest groups of axes with equal products; a group is moved as one,
    so that only axes that are merged need to lie side by side, in the order of the file.
    """
    groups = axis_groups(value.shape, shape)
    keys, last = [], -1.0
    for before, _ in groups:
        last = min((value.layout.index(axis) for axis in before), default=last + 0.5)
        keys.append(last)
    order = sorted(range(len(groups)), key=keys.__getitem__)
    array = relaid(value, [axis for group in order for axis in groups[group][0]])
    layout = tuple(axis for group in order for axis in groups[group][1])
    return Laid(jnp.reshape(array, [shape[axis] for axis in layout]), layout, before=value)
