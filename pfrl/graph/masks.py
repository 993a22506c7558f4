"""Channels switched off by multiplying every array that goes with them by zero.

Equal to slicing them off, but with the mask as a traced value, so that a
search over policies compiles once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Variables


class Masks:
    """Where every channel's entry of one mask vector belongs.

    The vector is ``[1 + channels of all groups]``; its first entry is 1 and
    stands for all indices that no group owns.
    """

    def __init__(self, graph: Graph):
        self._start: dict[str, int] = {}
        self.size = 1
        places: dict[str, list[tuple[int, np.ndarray]]] = {}
        for name, group in graph.groups.items():
            self._start[name] = self.size
            entries = np.arange(self.size, self.size + group.size)
            self.size += group.size
            for member in group.members:
                shape = np.shape(graph.source.variables[member.parameter])
                index = np.zeros(shape[member.axis], int)
                index[member.indices] = entries[:, None]
                mine = places.setdefault(member.parameter, [])
                # Groups on disjoint parts of an axis share one index; where both have a say
                # (heads and what is inside a head), the mask is the product of two.
                for axis, other in mine:
                    if axis == member.axis and not (other[member.indices]).any():
                        other[member.indices] = entries[:, None]
                        break
                else:
                    mine.append((member.axis, index))
        self._places = places

    def vector(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mask ``[size]`` float32 of 0 and 1 in which the kept channels are 1."""
        vector = np.zeros(self.size, np.float32)
        vector[0] = 1
        for name, start in self._start.items():
            vector[start + np.asarray(kept[name])] = 1
        return vector

    def apply(self, variables: Variables, vector: jax.Array) -> Variables:
        """The variables with every switched-off slice zero; ``vector`` may be traced."""
        masked = dict(variables)
        for name, axes in self._places.items():
            value = variables[name]
            for axis, index in axes:
                shape = [1] * value.ndim
                shape[axis] = len(index)
                value = value * jnp.reshape(vector[index], shape)
            masked[name] = value
        return masked


Places = Mapping[str, tuple[np.ndarray, ...]]
"""By variable, the indices that remain on each of its axes."""


def kept_places(graph: Graph, kept: Mapping[str, np.ndarray]) -> Places:
    """Which part of every variable remains; ``value[np.ix_(*places)]`` is that part."""
    stays = {
        name: [np.ones(size, bool) for size in np.shape(value)]
        for name, value in graph.source.variables.items()
    }
    for name, group in graph.groups.items():
        goes = np.ones(group.size, bool)
        goes[np.asarray(kept[name], int)] = False
        for member in group.members:
            stays[member.parameter][member.axis][member.indices[goes].ravel()] = False
    return {name: tuple(map(np.flatnonzero, axes)) for name, axes in stays.items()}


def slice_variables(
    graph: Graph, variables: Variables, kept: Mapping[str, np.ndarray]
) -> Variables:
    """The variables without the channels that go; those that no graph knows stay as they are."""
    places = kept_places(graph, kept)
    return {
        name: np.asarray(value)[np.ix_(*places[name])] if name in places else np.asarray(value)
        for name, value in variables.items()
    }


def alive_elements(
    graph: Graph, kept: Mapping[str, np.ndarray], names: Iterable[str]
) -> dict[str, np.ndarray]:
    """What is on kept channels alone: bool of the variables' full shapes, by name."""
    places, arrays = kept_places(graph, kept), graph.source.variables
    return {
        name: expand(np.asarray(True), places[name], np.shape(arrays[name]), False)
        for name in names
    }


def expand(part: np.ndarray, places: tuple[np.ndarray, ...], shape: tuple, fill: Any) -> np.ndarray:
    """An array of full size with ``part`` at its places and ``fill`` everywhere else."""
    whole = np.full(shape, fill, np.asarray(part).dtype)
    whole[np.ix_(*places)] = part
    return whole
