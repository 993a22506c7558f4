"""Judging that ends as soon as the best accuracy so far is out of reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pfrl.compression.policy import Policy
from pfrl.evaluation.base import Evaluator, Wrapper
from pfrl.evaluation.config import Evaluation

DOUBT = 1e-3
"""Chance that a validation that could have been the best is stopped early."""


@dataclass
class Bound:
    """Whether a validation can no longer become the best, but for a chance of ``DOUBT``.

    Hoeffding's bound (1963), which holds without replacement too: after ``n`` images of mean
    quality ``q`` in [0, 1], the mean of all is below ``q + sqrt(ln(1 / DOUBT) / 2n)``.

    Attributes:
      best: the highest mean quality of a whole validation so far.
    """

    best: float = field(default=-math.inf)

    def __call__(self, total: float, count: int) -> bool:
        """Whether to stop after ``count`` images whose qualities add up to ``total``."""
        return total / count + math.sqrt(math.log(1 / DOUBT) / (2 * count)) < self.best


class EarlyStopping(Wrapper):
    """Raises the bound by which the evaluator inside stops.

    Args:
      inner: asks ``bound`` whether to stop.
      bound: rises with the exact evaluations.
    """

    def __init__(self, inner: Evaluator, bound: Bound):
        super().__init__(inner)
        self._bound = bound

    def evaluate(self, policy: Policy) -> Evaluation:
        found = self.inner.evaluate(policy)
        self.observe(found)
        return found

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        found = self.inner.evaluate_batch(policies)
        for evaluation in found:
            self.observe(evaluation)
        return found

    def observe(self, evaluation: Evaluation) -> None:
        if evaluation.exact:
            self._bound.best = max(self._bound.best, evaluation.accuracy)
