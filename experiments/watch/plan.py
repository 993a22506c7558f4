"""How long a whole run still takes: its stages, and the pace of what has passed.

Nothing is guessed. A stage whose pace is not known yet counts as nothing, and the total is then
said to be 'at least' so long.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from experiments.records.wording import duration

SECONDS = "s"
"""Unit of stages that take a time that is set beforehand."""


class Stage(NamedTuple):
    """One stage of a run.

    Attributes:
      name: of the stretch of work, as it is shown.
      amount: how much there is to do.
      unit: in what; stages of one unit have one pace, such as 'steps' of training.
    """

    name: str
    amount: float
    unit: str = SECONDS


class Plan:
    """The stages of a run in their order, and the seconds that a unit takes."""

    def __init__(self, stages: Sequence[Stage]):
        self._stages = {stage.name: stage for stage in stages}
        self._pace = {SECONDS: 1.0}

    def words(self, name: str, share: float, seconds: float, left: float) -> str:
        """``, at least 4 min in all`` while a stage runs; empty where it is the last one.

        Args:
          name: of the stage.
          share: of it that is done, from which the pace of its unit follows.
          seconds: that this took.
          left: seconds that the stage itself still takes.
        """
        names = list(self._stages)
        if name not in names or name == names[-1]:
            return ""
        later = [self._stages[each] for each in names[names.index(name) + 1 :]]
        if share > 0:
            self._pace[self._stages[name].unit] = seconds / (share * self._stages[name].amount)
        known = [stage for stage in later if stage.unit in self._pace]
        left += sum(stage.amount * self._pace[stage.unit] for stage in known)
        least = "" if len(known) == len(later) else "at least "
        return f", {least}{duration(left)} in all"


_current: ContextVar[Plan | None] = ContextVar("plan", default=None)


def current() -> Plan | None:
    """The plan of the run that is going on, if it has one."""
    return _current.get()


@contextmanager
def planned(stages: Sequence[Stage]) -> Iterator[None]:
    """Within, progress says what is left of all of these stages, too."""
    token = _current.set(Plan(stages))
    try:
        yield
    finally:
        _current.reset(token)
