"""How good the best policy of a search was by when: after evaluations, images and seconds."""

import math
import time
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from experiments.records.history import Line
from pfrl.evaluation.base import Evaluator


class Point(NamedTuple):
    """Where a search stood when its best policy changed, or when it ended."""

    evaluations: int
    images: int
    """That the evaluations looked at, to train on and to judge."""
    seconds: float
    """Of evaluations, and of all that is not evaluation. One from a cache counts as what it took
    when it was made."""
    accuracy: float
    """On the search images, of the policy with the highest reward so far."""


class Curve:
    """Follows a search from its first episode on; ``episode`` is told of each, in order.

    Args:
      evaluator: of the search, whose clock tells evaluations from the rest.
    """

    def __init__(self, evaluator: Evaluator):
        self.points: list[Point] = []
        self._clock, self._started = evaluator.seconds, time.perf_counter()
        self._before = sum(evaluator.seconds.values())
        self._evaluations, self._images, self._charged = 0, 0, 0.0

    @property
    def outside(self) -> float:
        """Seconds so far that were not spent on evaluations: the agent's and the environment's."""
        elapsed = time.perf_counter() - self._started
        return elapsed - (sum(self._clock.values()) - self._before)

    def episode(self, line: Line, best: Line) -> None:
        """An episode, and the best one so far, as in ``history.jsonl``."""
        self._evaluations += 1
        self._images += line["images"]
        self._charged += line["seconds"]
        if best is line:
            self._mark(best["accuracy"])

    def ended(self) -> list[Point]:
        """All points, the last of which is the end of the search."""
        self._mark(self.points[-1].accuracy if self.points else 0.0)
        return self.points

    def _mark(self, accuracy: float) -> None:
        seconds = self._charged + self.outside
        self.points.append(Point(self._evaluations, self._images, seconds, accuracy))


def reached(curve: Iterable[Sequence[float]], accuracy: float) -> Point | None:
    """The first point of a curve at which the best policy is at least so accurate."""
    return next((point for point in map(Point._make, curve) if point.accuracy >= accuracy), None)


class Taken(NamedTuple):
    """What the median of several searches took; endless where half of them never arrived."""

    evaluations: float
    images: float
    seconds: float


def taken(curves: Sequence[Sequence[Sequence[float]]], accuracy: float) -> Taken:
    """What searches took until their best policy was at least so accurate."""
    found = [reached(curve, accuracy) for curve in curves]
    endless = (math.inf,) * len(Taken._fields)
    return Taken(*map(median, zip(*(endless if p is None else p[:-1] for p in found), strict=True)))


def common_accuracy(ends: Iterable[Sequence[float]]) -> float:
    """What all searchers can be timed to: the lowest mean accuracy that one of them ends with.

    Args:
      ends: of every searcher, the last accuracies of its searches.
    """
    return min(float(np.mean(end)) for end in ends)


def at(curve: Sequence[Sequence[float]], axis: str, places: np.ndarray) -> np.ndarray:
    """The accuracy of the best so far at each place of an axis; NaN before the first policy.

    Args:
      curve: points, as of ``Curve``.
      axis: a field of ``Point``.
      places: ascending.
    """
    points = [Point._make(point) for point in curve]
    passed = np.searchsorted([getattr(p, axis) for p in points], places, side="right")
    accuracies = np.array([np.nan, *(point.accuracy for point in points)])
    return accuracies[passed]
