"""Judging that ends as soon as a policy is known, or likely enough, to be behind the best so far.

Few images are for all policies, and all images for those that contend. What is stopped is an
estimate: ``Evaluation.exact`` is false, no cache holds it, and no best so far is made of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pfrl.compression.policy import Policy
from pfrl.evaluation.base import Evaluator, Wrapper
from pfrl.evaluation.config import Evaluation
from pfrl.tasks.judging import Judged

DOUBT = 1e-3
"""Chance that a validation that could have been the best is stopped early by a bound."""
ERRORS = 1.5
"""Standard errors of the difference by which a policy that loses a race is behind; with one, some
of the best policies lose."""


@dataclass
class Bound:
    """Whether a validation can no longer become the best, but for a chance of ``DOUBT``.

    Hoeffding's bound (1963), which holds without replacement too: after ``n`` images of mean
    quality ``q`` in [0, 1], the mean of all is below ``q + sqrt(ln(1 / DOUBT) / 2n)``.

    Attributes:
      best: the highest mean quality of a whole validation so far.
    """

    best: float = field(default=-math.inf)

    def __call__(self, found: np.ndarray) -> bool:
        """Whether to stop after images of the qualities ``[n]``."""
        return self.estimate(found) + math.sqrt(math.log(1 / DOUBT) / 2 / len(found)) < self.best

    def estimate(self, found: np.ndarray) -> float:
        """The mean quality of all images, from that of the first ``[n]``."""
        return float(found.mean())

    def take(self, judged: Judged) -> None:
        """Learn of a whole validation."""
        self.best = max(self.best, judged.quality)


@dataclass
class Race(Bound):
    """Whether a policy is behind the best one on the images that both were judged on.

    The images are common, so that it is their difference that counts, whose error is smaller
    than that of either (Maron and Moore 1994, Hoeffding races; Birattari et al. 2002, F-Race).
    After ``n`` images with a mean difference ``d`` and its standard deviation ``s``, a policy is
    stopped if ``d > ERRORS · s / sqrt(n)``.

    Attributes:
      each: qualities ``[N]`` of the best policy; empty before there is one.
    """

    each: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __call__(self, found: np.ndarray) -> bool:
        if not len(self.each):
            return False
        behind = self.each[: len(found)] - found
        return bool(behind.mean() > ERRORS * behind.std() / math.sqrt(len(found)))

    def estimate(self, found: np.ndarray) -> float:
        """The best's quality less the difference so far (its images' ease is the same)."""
        return max(0.0, float(self.best - (self.each[: len(found)] - found).mean()))

    def take(self, judged: Judged) -> None:
        if judged.quality > self.best:
            self.best, self.each = judged.quality, judged.each


class EarlyStopping(Wrapper):
    """Tells the rule, by which the evaluator inside stops, of evaluations made elsewhere.

    Args:
      inner: asks ``rule`` whether to stop, and tells it of its own whole validations.
      rule: knows the best so far.
    """

    def __init__(self, inner: Evaluator, rule: Bound):
        super().__init__(inner)
        self._rule = rule
        self._unseen: Policy | None = None

    def evaluate(self, policy: Policy) -> Evaluation:
        if self._unseen is not None and isinstance(self._rule, Race):
            # The best one came from a cache or a record, which have no qualities of images.
            self._rule.each = self.inner.score(self._unseen, "reward").each
        self._unseen = None
        found = self.inner.evaluate(policy)
        self.observe(policy, found)
        return found

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        found = self.inner.evaluate_batch(policies)
        for policy, evaluation in zip(policies, found, strict=True):
            self.observe(policy, evaluation)
        return found

    def observe(self, policy: Policy, evaluation: Evaluation) -> None:
        if evaluation.exact and evaluation.accuracy > self._rule.best:
            self._rule.best, self._unseen = evaluation.accuracy, policy


RULES = {"bound": Bound, "race": Race}
