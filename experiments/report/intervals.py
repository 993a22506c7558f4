"""Intervals around accuracies: of one network, of two on the same images, and over seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats takes most of a second to import


class StatisticsError(ValueError):
    """Outcomes that cannot be compared; the message says what was got."""


class Interval(NamedTuple):
    """Lower and upper bound, both shares in [0, 1]."""

    low: float
    high: float


class Mean(NamedTuple):
    """A mean, and half the width of its interval; None for fewer than two values."""

    mean: float
    margin: float | None

    def percent(self, signed: bool = False) -> str:
        """Of shares: ``81.00 ± 12.71``."""
        text = f"{100 * self.mean:{'+' if signed else ''}.2f}"
        return text if self.margin is None else f"{text} ± {100 * self.margin:.2f}"


class Difference(NamedTuple):
    """``accuracy_a - accuracy_b`` and the bounds of its interval, all shares in [-1, 1]."""

    difference: float
    low: float
    high: float


def paired_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, confidence: float = 0.95
) -> Difference:
    """How much more accurate ``a`` is than ``b`` when both answered for the same images.

    With ``n10`` images that only ``a`` got right and ``n01`` that only ``b``
    did, the difference is ``(n10 - n01) / N``. The interval is Wald's after
    half an image was added to each of the four cells of the paired table
    ('Wald+2'): unlike the bare Wald interval, which McNemar's test belongs to,
    it keeps its coverage for few discordant images and has a width above 0
    where there are none. It needs no random numbers.

    Reference: Agresti and Min, Simple improved confidence intervals for
    comparing matched proportions, Statistics in Medicine 24, 2005, 729-740.

    Args:
      correct_a, correct_b: boolean ``[N]``, the same images in the same order.
      confidence: of the interval.

    Raises:
      StatisticsError: if the two are not ``[N]`` of one length ``N > 0``.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise StatisticsError(
            f"got outcomes of shapes {list(a.shape)} and {list(b.shape)}, expected two [N] with"
            " N > 0; evaluate both networks on all images of the test split"
        )
    n, n10, n01 = a.size, int((a & ~b).sum()), int((~a & b).sum())
    centre = (n10 - n01) / (n + 2)
    variance = (n10 + n01 + 1 - (n10 - n01) ** 2 / (n + 2)) / (n + 2) ** 2
    margin = float(ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    return Difference((n10 - n01) / n, max(centre - margin, -1.0), min(centre + margin, 1.0))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """The mean of values of several seeds, with Student's interval around it.

    Raises:
      StatisticsError: if there are none.
    """
    if not values:
        raise StatisticsError("got no values, expected one of every seed")
    count, mean = len(values), float(np.mean(values))
    if count == 1:
        return Mean(mean, None)
    scale = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Mean(mean, float(stdtrit(count - 1, (1 + confidence) / 2)) * scale)


def accuracy_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of the accuracy ``correct / total``.

    Reference: Wilson, Probable inference, the law of succession, and
    statistical inference, JASA 22, 1927, 209-212.

    Raises:
      StatisticsError: unless ``0 <= correct <= total`` and ``total > 0``.
    """
    if not 0 <= correct <= total or total == 0:
        raise StatisticsError(
            f"got {correct} correct of {total} images, expected 0 <= correct <= total and total > 0"
        )
    share, square = correct / total, float(ndtri((1 + confidence) / 2)) ** 2 / total
    centre = (share + square / 2) / (1 + square)
    margin = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return Interval(max(centre - margin, 0.0), min(centre + margin, 1.0))
