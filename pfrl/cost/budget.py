"""A budget: a metric and a limit on it, as the user writes it and as a number."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pfrl.cost.metrics import METRICS

Choice = TypeVar("Choice")


class BudgetError(ValueError):
    """A budget that cannot be read or cannot be met; the message says what would do."""


@dataclass(frozen=True)
class Budget:
    """A limit on a metric.

    Attributes:
      metric: one of ``METRICS``.
      value: the limit; a share of the base network's cost if ``relative``.
      relative: whether ``value`` is a share in (0, 1].
    """

    metric: str
    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """``macs=0.5`` (half of the base), ``latency=0.4ms``, ``bytes=60kB``, ``macs=20M``.

        A number up to 1 without a unit is a share of the base network's cost.

        Raises:
          BudgetError: if the text is no such thing.
        """
        match = re.fullmatch(r"(\w+)=([0-9.]+(?:e[0-9]+)?)([A-Za-z]*)", text.strip())
        if not match:
            raise BudgetError(
                f"cannot read the target '{text}'; expected metric=value, such as macs=0.5"
                f" (half of the base network) or latency=0.4ms, metric one of {', '.join(METRICS)}"
            )
        metric, number, unit = match.groups()
        if metric not in METRICS:
            raise BudgetError(f"unknown metric '{metric}'; expected one of {', '.join(METRICS)}")
        suffixes = METRICS[metric].suffixes
        if unit not in suffixes:
            units = ", ".join(filter(None, suffixes))
            raise BudgetError(f"'{unit}' is no unit of {metric}; expected none, or one of {units}")
        try:
            value = float(number)
        except ValueError:
            raise BudgetError(f"'{number}' in the target '{text}' is no number") from None
        if not 0 < value < float("inf"):
            raise BudgetError(f"the target '{text}' must be above zero and finite")
        return cls(metric, value * suffixes[unit], not unit and value <= 1)

    @property
    def needs_latency(self) -> bool:
        """Whether costs of its metric can only be had with a latency model."""
        return METRICS[self.metric].needs == "latency"

    @property
    def needs_litert(self) -> bool:
        """Whether costs of its metric can only be had with the size of the LiteRT file."""
        return METRICS[self.metric].needs == "litert"

    def limit(self, base: Mapping[str, float]) -> float:
        """The limit in the metric's unit for a network of these base costs."""
        return self.value * base[self.metric] if self.relative else self.value

    def __str__(self) -> str:
        if self.relative:
            return f"{self.metric} at most {self.value:.0%} of the base network"
        return f"{self.metric} at most {self.value:g}"


def largest_that_fits(
    choices: Sequence[Choice], fits: Callable[[Choice], bool], *, monotone: bool
) -> Choice:
    """The last of the choices that fits a budget; the first if no other does.

    Args:
      choices: in ascending order, one at the least. The first one is not asked about.
      fits: whether a choice meets the budget.
      monotone: whether all choices before one that fits do so too: they are bisected then, and
        else asked about one by one from the last on (see ``pfrl.cost.metrics.Metric``).
    """
    low, high = 0, len(choices) - 1
    if high == 0 or fits(choices[high]):  # mostly the last one does
        return choices[high]
    if not monotone:
        return next((choices[n] for n in range(high - 1, 0, -1) if fits(choices[n])), choices[0])
    high -= 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(choices[middle]) else (low, middle - 1)
    return choices[low]


def largest_that_fit(most: np.ndarray, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``largest_that_fits`` among 0 to ``most`` for ``B`` searches at once, by bisection.

    Args:
      most: int ``[B]``, the last choice of each.
      fits: bool ``[B]`` for choices ``[B]``, monotone.
    """
    low, high, middle = np.zeros_like(most), most, most
    while (low < high).any():
        met = fits(middle)
        low, high = np.where(met, middle, low), np.where(met, high, np.maximum(middle - 1, low))
        middle = (low + high + 1) // 2
    return low
