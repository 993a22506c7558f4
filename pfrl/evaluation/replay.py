"""Evaluations that were recorded before: a search that is played again does not pay for them."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from pfrl.compression.policy import Policy
from pfrl.evaluation.config import Evaluation


class ReplayError(ValueError):
    """Recorded evaluations that another search made."""


class Replay:
    """Answers for the next policies, in the order in which they were evaluated."""

    def __init__(self) -> None:
        self._recorded: deque[tuple[Any, Evaluation]] = deque()

    def extend(self, recorded: Iterable[tuple[Any, Evaluation]]) -> None:
        """Records ``(policy as JSON, evaluation)`` of the next evaluations."""
        self._recorded.extend(recorded)

    def next(self, policy: Policy) -> Evaluation | None:
        """What is recorded of the next evaluation; None if there is no record left.

        Raises:
          ReplayError: if the next record is of another policy.
        """
        if not self._recorded:
            return None
        expected, evaluation = self._recorded.popleft()
        if expected != policy.to_json():
            raise ReplayError(
                "the recorded search made other decisions than this one; resume with the"
                " same options and versions, or start in a new folder"
            )
        return evaluation
