"""What goes together when a channel is removed: one form for two libraries, and their comparison.

A *slot* is one index of one axis of one array. A channel is the set of slots that
are removed with it, a group is a collection of such sets. Both libraries' groups
are written in the slots of PyTorch's arrays under our names, because where ours has
``[heads, width of a head]`` PyTorch has one axis of both.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pfrl.graph import Graph

Axes = tuple[int, ...]
"""Axes of one of our arrays that are one axis of PyTorch's, row-major."""

Slot = tuple[str, Axes, int]
"""Our array, our axes, and the place on them."""

Channel = frozenset[Slot]

_LEAVES = {
    "weight": ("kernel", "scale"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}
"""What we may call the arrays that PyTorch calls otherwise."""


class Counterpart(NamedTuple):
    """Our array for one of PyTorch's.

    Attributes:
      name, shape: of ours.
      axes: for every axis of PyTorch's array, ours.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[Axes, ...]

    def convert(self, array: np.ndarray) -> np.ndarray:
        """The values of PyTorch's array in our layout."""
        order = sorted(range(array.ndim), key=lambda axis: self.axes[axis])
        return array.transpose(order).reshape(self.shape)


def find_counterparts(
    theirs: Mapping[str, Sequence[int]], ours: Mapping[str, Sequence[int]]
) -> dict[str, Counterpart]:
    """Our array for every one of PyTorch's, by the latter's name.

    Args:
      theirs, ours: shapes by name; counters (``num_batches_tracked``) left out.

    Raises:
      ValueError: if the networks do not have the same arrays.
    """
    found = {}
    for name, shape in theirs.items():
        parent, _, leaf = name.rpartition(".")
        candidates = [f"{parent}.{each}".strip(".") for each in _LEAVES.get(leaf, (leaf,))]
        match = next((each for each in candidates if each in ours), None)
        if match is None or np.prod(ours[match]) != np.prod(shape):
            raise ValueError(f"'{name}' {list(shape)} has no equal in our network: compare twins")
        found[name] = Counterpart(match, tuple(ours[match]), _axes(shape, ours[match]))
    lonely = set(ours) - {counterpart.name for counterpart in found.values()}
    if lonely:
        raise ValueError(f"'{min(lonely)}' has no equal in the torch network: compare twins")
    return found


def _axes(theirs: Sequence[int], ours: Sequence[int]) -> tuple[Axes, ...]:
    """``OIHW`` is our ``HWIO`` and ``OI`` our ``IO``, of which each may be several axes."""
    if len(theirs) == 4:
        return (3,), (2,), (0,), (1,)
    every = tuple(range(len(ours)))
    if len(theirs) == 2:
        inputs = next(n for n in every if np.prod(ours[:n]) == theirs[1] and n > 0)
        return every[inputs:], every[:inputs]
    if len(theirs) == 1:
        return (every,)
    return tuple((axis,) for axis in every)


def our_groups(graph: Graph, counterparts: Iterable[Counterpart]) -> dict[str, list[Channel]]:
    """The channels of every group of a graph."""
    known = {each.name: each for each in counterparts}
    groups = {}
    for name, group in graph.groups.items():
        channels: list[set[Slot]] = [set() for _ in range(group.size)]
        for member in group.members:
            counterpart = known[member.parameter]
            axes = next(axes for axes in counterpart.axes if member.axis in axes)
            sizes = [counterpart.shape[axis] for axis in axes]
            # The places of the merged axis, by the index on the member's own one.
            places = np.arange(np.prod(sizes)).reshape(sizes)
            places = np.moveaxis(places, axes.index(member.axis), 0)
            for channel, indices in zip(channels, member.indices, strict=True):
                flat = places[indices].ravel().tolist()
                channel.update((member.parameter, axes, place) for place in flat)
        groups[name] = [frozenset(channel) for channel in channels]
    return groups


class Relation(NamedTuple):
    """How one of their groups stands to ours.

    Attributes:
      kind: 'equal': one of ours has the same channels;
        'union': each of its channels is several of ours, which can go one by one;
        'contained': each of its channels is a part of one of ours, and cannot go alone;
        'differs': neither;
        'missing': none of ours touches it.
      ours: the groups of ours that share slots with it.
    """

    kind: str
    ours: tuple[str, ...]


def relate(theirs: Sequence[Channel], ours: Mapping[str, Sequence[Channel]]) -> Relation:
    """Compare one of their groups with all of ours."""
    slots = frozenset().union(*theirs)
    touched = tuple(
        name for name, channels in ours.items() if any(slots & channel for channel in channels)
    )
    if not touched:
        return Relation("missing", ())
    for name in touched:
        if set(theirs) == set(ours[name]):
            return Relation("equal", (name,))
    pool = [channel for name in touched for channel in ours[name]]
    if all(_is_union(channel, pool) for channel in theirs):
        parts = [name for name in touched if any(c <= slot for c in ours[name] for slot in theirs)]
        return Relation("union", tuple(parts))
    if all(any(channel < whole for whole in pool) for channel in theirs):
        wholes = [name for name in touched if any(t < c for c in ours[name] for t in theirs)]
        return Relation("contained", tuple(wholes))
    return Relation("differs", touched)


def _is_union(channel: Channel, pool: Iterable[Channel]) -> bool:
    """Whether a channel is made up of whole ones of the pool."""
    return channel == frozenset().union(*(part for part in pool if part <= channel))


def untouched(
    ours: Mapping[str, Sequence[Channel]], theirs: Iterable[Sequence[Channel]]
) -> list[str]:
    """Our groups that share no slot with any of theirs."""
    slots = frozenset().union(*(channel for channels in theirs for channel in channels))
    return [
        name for name, channels in ours.items() if not any(channel & slots for channel in channels)
    ]
