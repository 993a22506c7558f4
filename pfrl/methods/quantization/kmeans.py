"""k-means in one dimension: the values that many numbers are best replaced by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SAMPLE = 1 << 14
"""Values that the k-means++ initialisation draws from, if there are more."""


class KMeansError(ValueError):
    """Values or options that have no clusters; the message says what is expected."""


class Values(NamedTuple):
    """Sorted values without repetition, float64 ``[D]``, and running sums from 0, ``[D + 1]``.

    Attributes:
      distinct: ascending.
      counts: how many of the first ones there are, repetitions counted.
      sums: of them.
    """

    distinct: np.ndarray
    counts: np.ndarray
    sums: np.ndarray


def kmeans(
    values: Any,
    k: int,
    *,
    init: str = "quantile",
    seed: int = 0,
    iterations: int = 300,
    zero: bool = False,
) -> np.ndarray:
    """At most ``k`` centers such that values are near to their nearest one (in squares).

    Lloyd's algorithm in one dimension: a cluster is a run of the sorted values, found
    by bisection, and its mean a difference of running sums. So an iteration costs
    ``k log n`` after one sort. A cluster that became empty moves to the value that is
    farthest from its center. The order of the values does not matter.

    Args:
      values: numbers of any shape, or what ``sort_values`` made of them.
      k: how many centers, from 1.
      init: 'quantile', ``k`` evenly spaced quantiles, or 'kmeans++', drawn with
        probability ∝ squared distance (Arthur & Vassilvitskii 2007).
      seed: of 'kmeans++'.
      iterations: at most; it ends earlier when nothing changes any more.
      zero: whether one center is zero, and stays it: for sparse kernels.

    Returns:
      float64, ascending. With no more than ``k`` different values these are the centers.

    Raises:
      KMeansError: see ``sort_values``; or if ``k`` or ``init`` is none of the above.
    """
    values = values if isinstance(values, Values) else sort_values(values)
    if init not in STARTS:
        raise KMeansError(f"no initialisation is named {init!r}; choose one of {', '.join(STARTS)}")
    if k < 1:
        raise KMeansError(f"expected at least 1 center, got {k}")
    distinct = np.union1d(values.distinct, [0.0]) if zero else values.distinct
    if len(distinct) <= k:
        return distinct
    centers = np.sort(STARTS[init](values, k, np.random.default_rng(seed)))
    if zero:
        centers[np.abs(centers).argmin()] = 0
    for _ in range(iterations):
        moved = _moved(values, centers, zero)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def sort_values(values: Any) -> Values:
    """What ``kmeans`` takes, for several runs on the same values.

    Raises:
      KMeansError: if there are none, or some are infinite or no numbers.
    """
    values = np.asarray(values).astype(np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise KMeansError(
            f"expected at least one weight, and finite ones alone; got {len(values)}, of which"
            f" {int((~np.isfinite(values)).sum())} are no finite number"
        )
    distinct, counts = np.unique(values, return_counts=True)
    sums = np.cumsum(distinct * counts)
    return Values(distinct, np.concatenate([[0], np.cumsum(counts)]), np.concatenate([[0.0], sums]))


def _moved(values: Values, centers: np.ndarray, zero: bool) -> np.ndarray:
    """The means of the clusters, ascending; with ``zero`` the zero among the centers stays."""
    middles = (centers[1:] + centers[:-1]) / 2
    cuts = np.searchsorted(values.distinct, middles, side="right")
    edges = np.concatenate([[0], cuts, [len(values.distinct)]])
    counts, sums = np.diff(values.counts[edges]), np.diff(values.sums[edges])
    means = np.where(counts > 0, sums / np.maximum(counts, 1), centers)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        far = _farthest(values.distinct, centers, edges)[: len(empty)]
        means[empty[: len(far)]] = far
    if zero:
        means[np.abs(centers).argmin()] = 0
    return np.sort(means)


def _farthest(values: np.ndarray, centers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The ends of all clusters, those that are farthest from their center first."""
    filled = np.flatnonzero(np.diff(edges))
    ends, own = np.unique([edges[filled], edges[filled + 1] - 1], return_index=True)
    distance = np.abs(values[ends] - np.tile(centers[filled], 2)[own])
    return values[ends[np.argsort(-distance, kind="stable")]]


def _quantiles(values: Values, k: int, rng: np.random.Generator) -> np.ndarray:
    """``k`` evenly spaced quantiles, none of them at an end."""
    places = (np.arange(k) + 0.5) / k * values.counts[-1]
    return values.distinct[np.searchsorted(values.counts[1:], places, side="right")]


def _plus_plus(values: Values, k: int, rng: np.random.Generator) -> np.ndarray:
    """One value after the other, with probability ∝ squared distance to the nearest so far."""
    size = len(values.distinct)
    # Of very many values some, evenly spaced, stand for those up to the next one.
    drawn = np.arange(min(size, SAMPLE)) * size // min(size, SAMPLE)
    pool = values.distinct[drawn]
    weights = np.diff(values.counts[[*drawn, size]]).astype(np.float64)
    centers = [rng.choice(pool, p=weights / weights.sum())]
    nearest = np.full(len(pool), np.inf)
    while len(centers) < k:
        nearest = np.minimum(nearest, np.square(pool - centers[-1]))
        chances = weights * nearest
        centers.append(rng.choice(pool, p=chances / chances.sum()))
    return np.asarray(centers)


STARTS: dict[str, Callable[[Values, int, np.random.Generator], np.ndarray]] = {
    "quantile": _quantiles,
    "kmeans++": _plus_plus,
}
"""By name, ``(values, k, rng) -> centers [k]`` to begin with."""
