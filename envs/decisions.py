"""The decisions of an episode, layer by layer, and the budget that holds for every one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.problem import Problem
from pfrl.cost import BudgetError, CostModel
from pfrl.cost.metrics import MONOTONE, Assignment
from pfrl.graph import Graph, Layer
from pfrl.policy import FLOAT_BITS, round_count, step_of


@dataclass(frozen=True)
class Knob:
    """One decision: ``values`` in ascending order of quality (and mostly of cost)."""

    kind: str
    """'keep', 'weight_bits' or 'act_bits'."""
    names: tuple[str, ...]
    """The groups, or the layer, that it is for."""
    values: tuple[tuple[int, ...], ...]
    """For every choice the channel count of every group, or the bit width."""

    def set(self, at: Assignment, choice: int) -> None:
        target = {"keep": at.counts, "weight_bits": at.weight_bits, "act_bits": at.act_bits}
        target[self.kind].update(zip(self.names, self.values[choice], strict=True))

    def choice(self, action: float) -> int:
        """The choice for an action in [-1, 1]: equal parts of the interval, in order.

        As HAQ rounds its bit widths: ``round(lo - 1/2 + a · (hi - lo + 1))``.
        """
        parts = len(self.values)
        return min(int((float(action) + 1) / 2 * parts), parts - 1)

    def action(self, choice: int) -> float:
        """The middle of the choice's part of [-1, 1]."""
        return 2 * (choice + 0.5) / len(self.values) - 1

    def level(self, choice: int) -> float:
        """The choice as a share of the largest: channels (of all its groups together) or bits."""
        return sum(self.values[choice]) / sum(self.values[-1])


class Decisions:
    """Steps of an episode: for every layer, the knobs that are decided there (or None).

    A channel group is decided at its first layer. Under a budget, everything
    undecided stands at its lowest value; a choice may only be taken if the
    whole then meets the budget. That assignment is feasible at the start (or
    the budget is refused), and stays so with every step, whatever the metric.

    Args:
      problem, graph, costs: what is decided.

    Raises:
      BudgetError: if the budget cannot be met, or needs a latency model that is not there.
    """

    def __init__(self, problem: Problem, graph: Graph, costs: CostModel):
        self._costs = costs
        self.graph = graph
        self.metric = problem.budget.metric if problem.budget else "macs"
        if self.metric not in costs.metrics:
            raise BudgetError(f"there is no cost model for '{self.metric}' in this problem")
        self.knob_kinds = problem.knobs
        if problem.knobs == ("keep",) and not graph.groups:
            raise BudgetError(
                "no channel of this network can be removed, so there is nothing to decide; add the"
                " knob weight_bits, or see with `pfrl inspect` what freezes them"
            )
        self.steps: list[tuple[Layer, list[Knob | None]]] = [
            (layer, [_knob(kind, problem, graph, layer, number) for kind in problem.knobs])
            for number, layer in enumerate(graph.layers)
        ]
        self.base = costs.base[self.metric]
        self.limit = problem.budget.limit(costs.base) if problem.budget else None
        self.start = self._lowest(problem)
        self.floor = costs.cost(self.metric, self.start)
        if self.limit is not None and self.floor > self.limit:
            raise BudgetError(
                f"{self.metric} {self.limit:.4g} cannot be met: with every knob at its lowest the"
                f" network still has {self.floor:.4g} ({self.floor / self.base:.1%} of the base);"
                " raise the target, lower keep_min or add a knob"
            )

    def _lowest(self, problem: Problem) -> Assignment:
        """Everything undecided at its lowest; what has no knob at its fixed value."""
        at = Assignment(
            self.graph.full_counts(),
            {layer.name: FLOAT_BITS for layer in self.graph.layers},
            {layer.name: FLOAT_BITS for layer in self.graph.layers},
            problem.round_to,
        )
        edges = {self.graph.layers[0].name, self.graph.layers[-1].name}
        for kind, bits in (("weight_bits", at.weight_bits), ("act_bits", at.act_bits)):
            if kind in problem.knobs:
                bits.update(dict.fromkeys(edges, problem.edge_bits))
        for _, knobs in self.steps:
            for knob in knobs:
                if knob is not None:
                    knob.set(at, 0)
        return at

    def cost(self, at: Assignment) -> float:
        """The budget's metric (MACs without a budget)."""
        return self._costs.cost(self.metric, at)

    def execute(
        self, step: int, action: Sequence[float] | np.ndarray, at: Assignment
    ) -> tuple[Assignment, np.ndarray, list[float]]:
        """Take the decisions of a step as far as the budget lets them.

        Args:
          step: number of the layer.
          action: in [-1, 1] (what lies outside is clipped), one for every kind of knob.
          at: the decisions so far, everything else at its lowest.

        Returns:
          the next assignment; the executed action (the requested one where it
          could be taken, else the middle of the choice that was; 0 for knobs
          that this layer does not have); and the level of every knob in [0, 1].
        """
        at, action = at.copy(), np.clip(action, -1, 1)
        executed, levels = np.zeros(len(self.knob_kinds), np.float32), []
        for place, knob in enumerate(self.steps[step][1]):
            if knob is None:
                levels.append(-1.0)
                continue
            wanted = knob.choice(action[place])
            taken = self._largest(knob, wanted, at)
            knob.set(at, taken)
            executed[place] = action[place] if taken == wanted else knob.action(taken)
            levels.append(knob.level(taken))
        return at, executed, levels

    def uniform(self, limit: float | None) -> Assignment:
        """The same action at every step: the largest whose policy meets ``limit`` without clipping.

        The control that every search has to beat; the lowest choices if nothing larger fits.
        """
        for action in np.linspace(1, -1, 1001):
            at = self.start.copy()
            for _, knobs in self.steps:
                for knob in knobs:
                    if knob is not None:
                        knob.set(at, knob.choice(action))
            if limit is None or self.cost(at) <= limit:
                return at
        return self.start.copy()

    def _largest(self, knob: Knob, wanted: int, at: Assignment) -> int:
        """The largest choice up to ``wanted`` that meets the budget; the lowest always does."""
        if self.limit is None:
            return wanted
        trial = at.copy()

        def feasible(choice: int) -> bool:
            knob.set(trial, choice)
            return self.cost(trial) <= self.limit  # type: ignore[operator]

        if self.metric not in MONOTONE:
            return next((choice for choice in range(wanted, 0, -1) if feasible(choice)), 0)
        low, high = 0, wanted  # low is feasible
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if feasible(middle) else (low, middle - 1)
        return low


def _knob(kind: str, problem: Problem, graph: Graph, layer: Layer, number: int) -> Knob | None:
    if kind == "keep":
        if not layer.decides:
            return None
        groups = [graph.groups[name] for name in layer.decides]
        largest = max(group.size for group in groups)
        shares = [count / largest for count in range(1, largest + 1)]
        values = [
            tuple(round_count(share * g.size, g.size, step_of(g, problem.round_to)) for g in groups)
            for share in shares
            if share >= problem.keep_min - 1e-9
        ]
        return Knob(kind, layer.decides, tuple(dict.fromkeys(values)))
    if number in (0, len(graph.layers) - 1):
        return None
    low, high = problem.bits
    return Knob(kind, (layer.name,), tuple((bits,) for bits in range(low, high + 1)))
