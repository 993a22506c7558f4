"""Bounds of settings: they stand in the type of a field, and are checked here for all commands.

::

    @dataclass(frozen=True)
    class Training:
        batch: Count = 64
        learning_rate: Positive = 0.1

    check(Training(batch=0))  # BoundsError: batch is a whole number from 1, got 0
"""

import dataclasses
import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class BoundsError(ValueError):
    """A setting outside of its bounds; the message names it, its bounds and what was given."""


class Bounds(NamedTuple):
    """Which numbers a field may hold; infinity and what is no number lie outside of all bounds.

    Attributes:
      low, high: the smallest and the largest one.
      above: whether ``low`` itself is excluded.
      below: whether ``high`` itself is excluded.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def hold(self, value: float) -> bool:
        """Whether the value is within."""
        lowest = self.low < value if self.above else self.low <= value
        highest = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and lowest and highest

    def words(self, whole: bool) -> str:
        """``is a whole number from 1``."""
        kind = "whole number" if whole else "number"
        start = f"{'above' if self.above else 'from'} {self.low:g}"
        if self.high == math.inf:
            return f"is a {kind} {start}"
        to = "and up to" if self.above else "to"
        return f"is a {kind} {start} {'to below' if self.below else to} {self.high:g}"


Count = Annotated[int, Bounds(1)]
"""A whole number from 1."""
Whole = Annotated[int, Bounds(0)]
"""A whole number from 0."""
Positive = Annotated[float, Bounds(0, above=True)]
"""A number above 0."""
NotNegative = Annotated[float, Bounds(0)]
"""A number from 0."""
Share = Annotated[float, Bounds(0, 1)]
"""A number from 0 to 1."""
BelowOne = Annotated[float, Bounds(0, 1, below=True)]
"""A number from 0 to below 1."""


def check(settings: Any, error: type[ValueError] = BoundsError, prefix: str = "") -> None:
    """See to it that every field of a dataclass, and of those in it, is within its bounds.

    A field of a ``Literal`` holds one of its values.

    Args:
      settings: an instance of a dataclass. Fields are bounded by their types, also inside of
        tuples and where they may be None; None itself is not checked.
      error: the class of what is raised.
      prefix: what the names of the fields begin with in the message, such as ``episode.``.

    Raises:
      BoundsError: or ``error``, for the first field that is not.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        hint, value = hints[field.name], getattr(settings, field.name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            choices = " or ".join(map(repr, get_args(hint)))
            raise error(f"{prefix}{field.name} is {choices}, got {value!r}")
        for bounds, whole, number in _bounded(hint, value):
            if not bounds.hold(number):
                raise error(f"{prefix}{field.name} {bounds.words(whole)}, got {number}")
        if dataclasses.is_dataclass(value):
            # The command line leaves out the name of a block that is marked with an empty one.
            unnamed = any(getattr(mark, "name", None) == "" for mark in get_args(hint)[1:])
            check(value, error, prefix if unnamed else f"{prefix}{field.name}.")


def _bounded(hint: Any, value: Any) -> Iterator[tuple[Bounds, bool, float]]:
    """Every number in the value that has bounds: these, whether it is to be whole, and itself."""
    options = get_args(hint)
    if get_origin(hint) is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Bounds) and isinstance(value, int | float):
                yield mark, options[0] is int, value
        yield from _bounded(options[0], value)
    elif get_origin(hint) in (Union, UnionType):
        for option in options:
            yield from _bounded(option, value)
    elif get_origin(hint) is tuple and isinstance(value, tuple):
        hints = options[:1] * len(value) if options[1:] == (Ellipsis,) else options
        for option, each in zip(hints, value, strict=True):
            yield from _bounded(option, each)
