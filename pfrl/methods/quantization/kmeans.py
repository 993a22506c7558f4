"""k-means in one dimension: the values that many numbers are best replaced by."""

from typing import Any, NamedTuple

import numpy as np


class KMeansError(ValueError):
    """Values or options that have no clusters; the message says what is expected."""


class _Values(NamedTuple):
    """Sorted values without repetition, float64 ``[D]``, and running sums from 0, ``[D + 1]``.

    Attributes:
      distinct: ascending.
      counts: how many of the first ones there are, repetitions counted.
      sums: of them.
    """

    distinct: np.ndarray
    counts: np.ndarray
    sums: np.ndarray


def kmeans(values: Any, k: int, iterations: int = 300) -> np.ndarray:
    """At most ``k`` centers such that values are near to their nearest one (in squares).

    Lloyd's algorithm in one dimension, from ``k`` evenly spaced quantiles: a cluster is a run
    of the sorted values, found by bisection, and its mean a difference of running sums. So an
    iteration costs ``k log n`` after one sort. A cluster that became empty moves to the value
    that is farthest from its center. The order of the values does not matter.

    Args:
      values: numbers of any shape.
      k: how many centers, from 1.
      iterations: at most; it ends earlier when nothing changes any more.

    Returns:
      float64, ascending. With no more than ``k`` different values these are the centers.

    Raises:
      KMeansError: if there are no values, or some are infinite or no numbers; or if ``k`` is
        less than 1.
    """
    found = _sorted(values)
    if k < 1:
        raise KMeansError(f"expected at least 1 center, got {k}")
    if len(found.distinct) <= k:
        return found.distinct
    centers = _quantiles(found, k)
    for _ in range(iterations):
        moved = _moved(found, centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def _sorted(values: Any) -> _Values:
    values = np.asarray(values).astype(np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise KMeansError(
            f"expected at least one weight, and finite ones alone; got {len(values)}, of which"
            f" {int((~np.isfinite(values)).sum())} are no finite number"
        )
    distinct, counts = np.unique(values, return_counts=True)
    sums = np.cumsum(distinct * counts)
    return _Values(
        distinct, np.concatenate([[0], np.cumsum(counts)]), np.concatenate([[0.0], sums])
    )


def _moved(values: _Values, centers: np.ndarray) -> np.ndarray:
    """The means of the clusters, ascending."""
    middles = (centers[1:] + centers[:-1]) / 2
    cuts = np.searchsorted(values.distinct, middles, side="right")
    edges = np.concatenate([[0], cuts, [len(values.distinct)]])
    counts, sums = np.diff(values.counts[edges]), np.diff(values.sums[edges])
    means = np.where(counts > 0, sums / np.maximum(counts, 1), centers)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        far = _farthest(values.distinct, centers, edges)[: len(empty)]
        means[empty[: len(far)]] = far
    return np.sort(means)


def _farthest(values: np.ndarray, centers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The ends of all clusters, those that are farthest from their center first."""
    filled = np.flatnonzero(np.diff(edges))
    ends, own = np.unique([edges[filled], edges[filled + 1] - 1], return_index=True)
    distance = np.abs(values[ends] - np.tile(centers[filled], 2)[own])
    return values[ends[np.argsort(-distance, kind="stable")]]


def _quantiles(values: _Values, k: int) -> np.ndarray:
    """``k`` evenly spaced quantiles, none of them at an end."""
    places = (np.arange(k) + 0.5) / k * values.counts[-1]
    return values.distinct[np.searchsorted(values.counts[1:], places, side="right")]
