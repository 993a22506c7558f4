"""Evaluations that were recorded before: a search that is resumed does not pay for them."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pfrl.compression.policy import Policy
from pfrl.evaluation.base import Evaluator, Wrapper
from pfrl.evaluation.config import Evaluation


class RecordError(ValueError):
    """Recorded evaluations that another search made."""


class Recorded(Wrapper):
    """Answers from records first, in their order; then the evaluator inside does.

    Args:
      inner: is told of what was recorded; see ``Evaluator.observe``.
    """

    def __init__(self, inner: Evaluator):
        super().__init__(inner)
        self._records: deque[tuple[Any, Evaluation]] = deque()

    def resume(self, records: Iterable[tuple[Any, Evaluation]]) -> None:
        """Take records ``(policy as JSON, evaluation)`` of the next evaluations."""
        self._records.extend(records)

    def evaluate(self, policy: Policy) -> Evaluation:
        """Evaluate a policy.

        Raises:
          RecordError: if the next record is of another policy.
        """
        return self._next(policy) if self._records else self.inner.evaluate(policy)

    def evaluate_batch(
        self,
        policies: Sequence[Policy],
        evaluate: Callable[[Sequence[Policy]], list[Evaluation]] | None = None,
    ) -> list[Evaluation]:
        """Evaluate policies.

        Args:
          policies: the next ones.
          evaluate: evaluates elsewhere those that are not on record; by default the evaluator
            inside does.

        Raises:
          RecordError: if a record is of another policy.
        """
        known = [self._next(policy) for policy in policies[: len(self._records)]]
        left = policies[len(known) :]
        if not left:
            return known
        if evaluate is None:
            # As many as were asked for, so that nothing compiles for another number, and rounds
            # as it would have without a record.
            filled = [*left, *[left[0]] * len(known)]
            return known + self.inner.evaluate_batch(filled)[: len(left)]
        found = evaluate(left)
        for policy, evaluation in zip(left, found, strict=True):
            self.inner.observe(policy, evaluation)
        return known + found

    def _next(self, policy: Policy) -> Evaluation:
        expected, evaluation = self._records.popleft()
        if expected != policy.to_json():
            raise RecordError(
                "the recorded search made other decisions than this one; resume with the"
                " same options and versions, or start in a new folder"
            )
        self.inner.observe(policy, evaluation)
        return evaluation
