"""The best combination of choices under a budget, where choices add up: an integer program.

What each choice loses is given and adds up over the decisions. Costs need not add up: the MACs of a
layer are the product of two counts. They are read off the cost function itself, by finite
differences from the lowest choices, as a sum over decisions and over pairs of decisions; what three
decisions share is left to the budget's own projection. A pair costs by transport: the weights of
its combinations have the two decisions' choices as marginals, which leaves only the choices
themselves to be integers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from envs.decisions import Decisions

SECONDS = 20.0
"""An integer program that takes longer ends with the best that it has found."""
GAP = 1e-4
"""Relative gap to the bound at which a solution is good enough."""
OFFERED = 7
"""Choices of a decision that one program decides between, at most: where no decision has more, the
solution is exact."""
AROUND = 2
"""Choices on either side of a solution that the next program decides between."""


class Costs(NamedTuple):
    """Costs of the choices of D decisions.

    Attributes:
      lowest: with every decision at its lowest choice.
      single: by decision, what each of its choices costs more than its lowest, ``[V]``.
      pairs: by pair of decisions ``(d, e)``, ``d < e``, what two choices cost together beyond
        their sum, ``[V, W]``; pairs that share nothing are left out.
    """

    lowest: float
    single: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]

    def of(self, choices: np.ndarray) -> float:
        """The cost of a combination ``[D]``."""
        total = self.lowest + sum(
            each[choice] for each, choice in zip(self.single, choices, strict=True)
        )
        return float(total + sum(t[choices[d], choices[e]] for (d, e), t in self.pairs.items()))


def costs_of(decisions: Decisions) -> Costs:
    """The costs of a problem's decisions in the metric of its budget."""
    every = [decision for _, decision in decisions.all()]

    def cost(*chosen: tuple[int, int]) -> float:
        at = decisions.start.copy()
        for which, choice in chosen:
            every[which].set(at, choice)
        return decisions.cost(at)

    sizes = [len(decision.values) for decision in every]
    lowest = cost()
    single = [
        np.array([cost((d, choice)) - lowest for choice in range(size)])
        for d, size in enumerate(sizes)
    ]
    pairs = {}
    for d, size in enumerate(sizes):
        for e in range(d + 1, len(sizes)):

            def beyond(c: int, v: int, d: int = d, e: int = e) -> float:
                return cost((d, c), (e, v)) - lowest - single[d][c] - single[e][v]

            if abs(beyond(size - 1, sizes[e] - 1)) > 1e-9 * abs(decisions.base):
                pairs[d, e] = np.array(
                    [[beyond(c, v) for v in range(sizes[e])] for c in range(size)]
                )
    return Costs(lowest, single, pairs)


def solve(losses: list[np.ndarray], costs: Costs, limit: float) -> np.ndarray | None:
    """The combination ``[D]`` of the smallest total loss that costs at most ``limit``.

    Exact where no decision has more than ``OFFERED`` choices. Where one has, a combination of which
    no change to choices nearby, of any number of decisions at once, is better.

    Args:
      losses: by decision, of each of its choices, ``[V]``.
      costs: of the same decisions.
      limit: what they may cost together.

    Returns:
      the choices, or None if no combination is cheap enough or none was found in time.
    """
    sizes = [len(each) for each in losses]
    offered = [np.unique(np.linspace(0, size - 1, OFFERED).round().astype(int)) for size in sizes]
    gap = max(int(np.diff(each).max(initial=1)) for each in offered)
    best, lowest = np.zeros(len(sizes), int), np.inf
    while True:
        chosen = _program(
            [each[own] for each, own in zip(losses, offered, strict=True)],
            Costs(
                costs.lowest,
                [each[own] for each, own in zip(costs.single, offered, strict=True)],
                {(d, e): t[np.ix_(offered[d], offered[e])] for (d, e), t in costs.pairs.items()},
            ),
            limit,
        )
        if chosen is None:
            return best if lowest < np.inf else None
        found = np.array([own[c] for own, c in zip(offered, chosen, strict=True)])
        total = sum(each[choice] for each, choice in zip(losses, found, strict=True))
        better, whole = total < lowest * (1 - GAP), max(sizes) <= OFFERED
        if better:
            best, lowest = found, total
        if whole or (gap == 1 and not better):
            return best
        gap = max(gap // AROUND, 1)
        steps = gap * np.arange(-AROUND, AROUND + 1)
        offered = [
            np.unique(np.clip(choice + steps, 0, size - 1))
            for choice, size in zip(best, sizes, strict=True)
        ]


def _program(losses: list[np.ndarray], costs: Costs, limit: float) -> np.ndarray | None:
    """The combination of the smallest total loss among all, as of ``solve``."""
    starts = np.cumsum([0, *map(len, losses)])
    width = int(starts[-1])
    blocks = {}
    for pair, table in costs.pairs.items():
        blocks[pair] = width
        width += table.size
    objective, price = np.zeros(width), np.zeros(width)
    objective[: starts[-1]] = np.concatenate(losses)
    price[: starts[-1]] = np.concatenate(costs.single)
    rows, columns, values = [], [], []
    right: list[float] = []

    def equation(places: np.ndarray, factors: np.ndarray, value: float) -> None:
        rows.extend([len(right)] * len(places))
        columns.extend(places)
        values.extend(factors)
        right.append(value)

    for d, own in enumerate(losses):
        equation(starts[d] + np.arange(len(own)), np.ones(len(own)), 1.0)
    for (d, e), table in costs.pairs.items():
        places = blocks[d, e] + np.arange(table.size).reshape(table.shape)
        price[places] = table
        for which, lines in ((d, places), (e, places.T)):
            for choice, line in enumerate(lines):
                marginal = np.append(line, starts[which] + choice)
                equation(marginal, np.append(np.ones(len(line)), -1.0), 0.0)
    matrix = coo_array((values, (rows, columns)), shape=(len(right), width))
    integral = np.zeros(width)
    integral[: starts[-1]] = 1
    # The scale of costs is up to the metric; rounding must not decide about the limit.
    room = (limit - costs.lowest) / abs(limit)
    found = milp(
        objective,
        integrality=integral,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(matrix, np.array(right), np.array(right)),  # type: ignore[arg-type]
            LinearConstraint(price[None] / abs(limit), -np.inf, room - 1e-9),
        ],
        options={"time_limit": SECONDS, "mip_rel_gap": GAP},
    )
    if found.x is None:
        return None
    return np.array([int(np.argmax(found.x[a:b])) for a, b in pairwise(starts)])
