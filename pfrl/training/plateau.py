"""Ending a training when the quality on held-out images has stopped rising (early stopping)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from pfrl.graph.source import Variables


class Best(NamedTuple):
    """What a training has come to.

    Attributes:
      variables: of the network; the latest of those that cannot be told apart from the best.
      highest: quality so far.
      risen: steps after which the quality was last higher than ever before.
    """

    variables: Variables
    highest: Any = np.float64(-np.inf)
    risen: Any = np.int64(0)


@dataclass(frozen=True)
class Plateau:
    """When a training ends before its last step; at that step, it is judged in any case.

    Of qualities within one standard error of the highest the latest counts as the best: it has
    seen more images, most of them at a lower learning rate, and the highest of many owes some of
    its quality to luck.

    Attributes:
      quality: of variables, in [0, 1], on images that are not trained on.
      images: how many these are.
      every: steps from one judgement to the next.
      patience: a training ends once the quality has not risen for so many steps, ...
      earliest: ... and when at least so many have been made: before the learning rate has
        fallen, quality that stands still says little about where it would end.
    """

    quality: Callable[[Variables], float]
    images: int
    every: int
    patience: int
    earliest: int = 0

    def start(self, variables: Variables) -> Best:
        """Before anything is judged."""
        return Best(_copied(variables))

    def better(self, best: Best, variables: Variables, done: int) -> Best:
        """The best so far, after a judgement of what ``done`` steps have come to."""
        quality = self.quality(variables)
        if quality > best.highest:
            best = best._replace(highest=np.float64(quality), risen=np.int64(done))
        highest = float(best.highest)
        error = sqrt(max(highest * (1 - highest), 0) / self.images)
        return best._replace(variables=_copied(variables)) if quality >= highest - error else best

    def reached(self, best: Best, done: int) -> bool:
        """Whether training ends after ``done`` steps."""
        return done >= self.earliest and done - int(best.risen) >= self.patience


def _copied(variables: Variables) -> Variables:
    """A training step consumes its state."""
    return {name: np.array(value) for name, value in variables.items()}
