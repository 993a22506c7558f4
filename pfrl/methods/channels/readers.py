"""The kernels that read a channel group, and what they are told of each of its channels.

What the methods share that choose channels by how well the rest can stand in for them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pfrl.graph import Graph, Group, Variables
from pfrl.graph.kernels import Kernel
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.repair.reconstruct import Gram


class SelectionError(ValueError):
    """Numbers of channels that cannot be kept; the message says what is expected."""


class Reader(NamedTuple):
    """One kernel ``[G, K, M]``, of which the group's channels take ``R`` of the ``K`` rows.

    Attributes:
      gram: of the kernel.
      channels: int ``[R]``, the channel that a row goes with; a channel may have
        many: taps, and places behind a flatten.
      places: int ``[G, R, M]``, where each element is in the flattened variable.
      weights: float64 ``[G, R, M]``.
      moments: float64 ``[G, R, R]``, the second moments of what the rows are multiplied
        with, over ``‖Y‖²`` of all that the kernel makes: so
        ``trace(Dᵀ · moments · D)`` is the relative error of its outputs if the weights
        change by ``D``, and large layers do not drown small ones.
    """

    gram: Gram
    channels: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    moments: np.ndarray


Pick = Callable[[Sequence[Reader], int, int], np.ndarray]
"""``(readers, channels of the group, how many stay) -> indices of those that stay``."""


def find_readers(group: Group, variables: Variables, grams: Sequence[Gram]) -> list[Reader]:
    """The kernels that sum over a group's channels and whose outputs are not always zero.

    Args:
      group: whose channels are looked for.
      variables: arrays of full size.
      grams: from ``pfrl.methods.repair.reconstruct.gather``.
    """
    found = []
    for gram in grams:
        array = np.asarray(variables[gram.kernel.variable])
        channels = row_channels(group, gram.kernel, array.shape)
        rows = np.flatnonzero(channels >= 0)
        if not rows.size:
            continue
        weights = array.reshape(-1)[gram.kernel.places].astype(np.float64)
        power = np.sum(weights * (gram.matrix @ weights))
        if power > 0:
            moments = gram.matrix[:, rows[:, None], rows] / power
            places = gram.kernel.places[:, rows]
            found.append(Reader(gram, channels[rows], places, weights[:, rows], moments))
    return found


def row_channels(group: Group, kernel: Kernel, shape: tuple[int, ...]) -> np.ndarray:
    """The channel of the group that each row of a kernel goes with, int ``[K]``; -1: none.

    A row that multiplies two channels of one group with each other goes with one of them.
    """
    channels = np.full(kernel.places.shape[1], -1)
    for member in group.members:
        if member.parameter == kernel.variable:
            channel_at = np.full(shape[member.axis], -1)
            channel_at[member.indices] = np.arange(group.size)[:, None]
            stride = int(np.prod(shape[member.axis + 1 :], dtype=int))
            met = channel_at[kernel.places // stride % shape[member.axis]]
            # Of an axis that the kernel makes, channels differ from output to output.
            if (met == met[:1, :, :1]).all():
                channels = np.maximum(channels, met[0, :, 0])
    return channels


def select(
    graph: Graph,
    variables: Variables,
    grams: Sequence[Gram],
    counts: Mapping[str, int],
    pick: Pick,
) -> dict[str, np.ndarray]:
    """Ascending indices of the channels that stay, ``counts[group]`` of every group.

    Groups that no kernel sums over (heads, what only products of activations read)
    keep those with the highest L1 scores.

    Raises:
      SelectionError: see ``check_counts``.
    """
    check_counts(graph, counts)
    kept = choose(l1_scores(graph, variables), counts)
    for name, group in graph.groups.items():
        if counts[name] < group.size:
            readers = find_readers(group, variables, grams)
            if readers:
                kept[name] = np.sort(pick(readers, group.size, counts[name]))
    return kept


def check_counts(graph: Graph, counts: Mapping[str, int]) -> None:
    """Every group keeps at least one of its channels.

    Raises:
      SelectionError: if a group has no count, or one that it cannot keep.
    """
    for name, group in graph.groups.items():
        if not 1 <= counts.get(name, 0) <= group.size:
            raise SelectionError(
                f"group '{name}' is to keep {counts.get(name)} channels;"
                f" expected a whole number from 1 to {group.size}"
            )
