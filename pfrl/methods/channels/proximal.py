"""Channels chosen by proximal gradient: group LASSO over all that the readers do with a channel."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.methods.base import Statistics
from pfrl.methods.channels.base import Criterion, Select
from pfrl.methods.channels.readers import Reader, select
from pfrl.methods.repair.reconstruct import Gram
from pfrl.registry import register


class Part(NamedTuple):
    """What the problem says of one reader, whose kernel is taken over its own length.

    Attributes:
      channels: int ``[R]``, the channel that each row goes with.
      moments: float64 ``[G, R, R]``, such that ``trace(Dᵀ · moments · D)`` is the relative
        error of the outputs when ``target`` changes by ``D``.
      target: float64 ``[G, R, M]``, the kernel that is there, of length 1.
    """

    channels: np.ndarray
    moments: np.ndarray
    target: np.ndarray


Kernels = list[np.ndarray]
"""``[G, R, M]`` for every reader of a group."""


def proximal(
    graph: Graph,
    variables: Variables,
    grams: Sequence[Gram],
    counts: Mapping[str, int],
    iterations: int = 30,
    halvings: int = 20,
) -> dict[str, np.ndarray]:
    """Channel selection by group LASSO (Yuan & Lin 2006) with the proximal gradient method.

    For every group, over all kernels that read it, with the kernels themselves free::

        min ½ Σ_readers ‖X W − X W'‖² / ‖Y‖² + λ Σᵢ ‖W'ᵢ‖

    where ``W'ᵢ`` is all that the readers do with channel ``i``: taps, outputs and readers in
    one norm, each reader's kernel taken over its own length. The norm is of the kernel
    alone: of two channels with the same contribution the one with the larger
    activations stays, as it says the same with a smaller kernel (``lasso`` does not
    tell them apart). What else a kernel reads stays as it is. Accelerated by FISTA
    (Beck & Teboulle 2009), from the Gram matrices alone, each group with all others whole.

    ``λ`` is bisected until ``counts[group]`` channels are not zero. Where the path jumps over
    the count, the channels at the larger ``λ`` stay, and those with the longest slices
    at the smaller one fill up.

    The kernels are not changed; ``pfrl.methods.repair.reconstruct.repair`` refits them. An
    iteration costs ``G R² M`` multiply-accumulates a reader.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      grams: from ``gather``, of the same arrays.
      counts: how many channels of every group stay.
      iterations: FISTA steps at each ``λ``, from the solution at the one before.
      halvings: of the interval of ``λ``, at most; it starts from where nothing stays.

    Returns:
      ascending indices for every group; see ``select`` for groups without a reader.

    Raises:
      SelectionError: if a count is missing or out of range.
    """
    pick = partial(_pick, iterations=iterations, halvings=halvings)
    return select(graph, variables, grams, counts, pick)


def as_part(reader: Reader) -> Part:
    """A reader with its kernel scaled to length 1, and its moments accordingly."""
    length = np.linalg.norm(reader.weights)
    return Part(reader.channels, reader.moments * length**2, reader.weights / length)


def lengths(parts: Sequence[Part], kernels: Kernels, size: int) -> np.ndarray:
    """Norm of each channel's slice over all readers, ``[size]``."""
    squares = np.zeros(size)
    for part, kernel in zip(parts, kernels, strict=True):
        squares += np.bincount(part.channels, np.square(kernel).sum(axis=(0, 2)), size)
    return np.sqrt(squares)


def shrink(parts: Sequence[Part], kernels: Kernels, threshold: float, size: int) -> Kernels:
    """Every channel's slice shorter by ``threshold``, and zero if it is not as long."""
    norms = lengths(parts, kernels, size)
    factors = np.zeros(size)
    np.divide(norms - threshold, norms, out=factors, where=norms > threshold)
    return [
        factors[part.channels, None] * kernel for part, kernel in zip(parts, kernels, strict=True)
    ]


def descend(
    parts: Sequence[Part], penalty: float, start: Kernels, size: int, iterations: int
) -> Kernels:
    """FISTA from ``start`` on the problem of ``proximal`` with ``λ = penalty``."""
    # No eigenvalue is larger than the largest sum of absolute values in a row.
    steepest = max(np.abs(part.moments).sum(axis=-1).max() for part in parts)
    now, ahead, momentum = start, start, 1.0
    for _ in range(iterations):
        moved = [
            kernel - part.moments @ (kernel - part.target) / steepest
            for part, kernel in zip(parts, ahead, strict=True)
        ]
        before, now = now, shrink(parts, moved, penalty / steepest, size)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        pull = (momentum - 1) / following
        ahead = [new + pull * (new - old) for new, old in zip(now, before, strict=True)]
        momentum = following
    return now


def _pick(
    readers: Sequence[Reader], size: int, count: int, *, iterations: int, halvings: int
) -> np.ndarray:
    parts = [as_part(reader) for reader in readers]
    targets = [part.target for part in parts]
    kernels = [np.zeros_like(target) for target in targets]
    # At the steepest slope from zero nothing is worth its price any more.
    slopes = [part.moments @ part.target for part in parts]
    low, high = 0.0, lengths(parts, slopes, size).max()
    fewer, more = np.zeros(size), lengths(parts, targets, size)
    for _ in range(halvings):
        penalty = (low + high) / 2
        kernels = descend(parts, penalty, kernels, size, iterations)
        norms = lengths(parts, kernels, size)
        alive = np.count_nonzero(norms)
        if alive > count:
            low, more = penalty, norms
        else:
            high, fewer = penalty, norms
        if alive == count:
            break
    return np.argsort(-np.where(fewer > 0, np.inf, more), kind="stable")[:count]


def _prepare(statistics: Statistics) -> Select:
    return partial(proximal, statistics.graph, statistics.variables, statistics.moments)


register("criterion", "proximal", Criterion(_prepare, frozenset({"moments"})))
