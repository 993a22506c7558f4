"""The decisions of an episode, layer by layer, and the budget that holds for every one of them."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from envs.choices import Decision, decision_of, rank_groups
from envs.problem import Problem, ProblemError
from pfrl.cost import Assignment, BudgetError, CostModel, largest_that_fits
from pfrl.cost.metrics import METRICS
from pfrl.graph import Graph, Layer

TRIED = 9
"""Choices of a decision, at most, where all decisions are tried out against one another."""


class Decisions:
    """Steps of an episode: for every layer, a decision for each knob, or None.

    A channel group is decided at its first layer. Under a budget, everything
    undecided stands at its lowest value; a choice may only be taken if the
    whole then meets the budget. That assignment is feasible at the start (or
    the budget is refused), and stays so with every step, whatever the metric.
    Where the lowest values are not the cheapest (integer kernels are slow at
    few channels), and too dear, undecided is what is at the cheapest found.

    Every ``Decision`` cuts the raw actions [-1, 1] into equal parts. Under a budget the action 0
    stands for the raw action ``u`` of ``uniform``, and the others for raw actions on two
    straight lines that meet there::

        raw = u + a (u + 1)    for a ≤ 0
              u + a (1 - u)    for a > 0

    so that an agent that knows nothing yet starts from the control that it has to beat,
    whatever the budget. Without a budget ``u = 0`` and actions are raw actions. Where no uniform
    policy meets the budget, every decision has a ``u`` of its own: see ``uniform``.

    Args:
      problem, graph, costs: what is decided.

    Raises:
      BudgetError: if the budget cannot be met, or needs a latency model that is not there.
      ProblemError: if ranks are to be decided and the network has none.
    """

    def __init__(self, problem: Problem, graph: Graph, costs: CostModel):
        self._costs = costs
        self.graph = graph
        self.metric = problem.budget.metric if problem.budget else "macs"
        if self.metric not in costs.metrics:
            raise BudgetError(f"there is no cost model for '{self.metric}' in this problem")
        self.monotone = costs.monotone(self.metric, problem.knobs)
        self.knobs = problem.knobs
        if problem.knobs == ("keep",) and not graph.groups:
            raise BudgetError(
                "no channel of this network can be removed, so there is nothing to decide; add the"
                " knob weight_bits, or see with `pfrl inspect` what freezes them"
            )
        ranks = rank_groups(graph) if "rank" in problem.knobs else frozenset()
        if "rank" in problem.knobs and not ranks:
            raise ProblemError(
                "this network has no ranks to decide; give its task a kind of decomposition, such"
                " as decompose='channel', or leave out the knob rank"
            )
        pattern = costs.recipe.pattern
        self.steps: list[tuple[Layer, list[Decision | None]]] = [
            (layer, [decision_of(k, problem, graph, n, ranks, pattern) for k in problem.knobs])
            for n, layer in enumerate(graph.layers)
        ]
        self._place = {decision: place for place, decision in self.all()}
        self.base = costs.base[self.metric]
        self.start = self._lowest(problem)
        self.floor = costs.cost(self.metric, self.start)
        self.limit: float | None = None
        self.clips = problem.kept_by == "projection"
        """Whether the limit holds at every step."""
        self.centre = np.zeros((len(self.steps), len(self.knobs)))
        """The raw action that the action 0 is, ``[L, K]``."""
        self.even = True
        """Whether ``uniform`` within the limit is uniform indeed, and not ``narrowed``."""
        if problem.budget is not None:
            self._take_limit(problem.budget.limit(costs.base))

    def under(self, limit: float) -> Self:
        """The same decisions under another limit on the metric, in its unit.

        Raises:
          BudgetError: if it cannot be met.
        """
        other = copy(self)
        other._take_limit(limit)
        return other

    def _take_limit(self, limit: float) -> None:
        where = "with every knob at its lowest"
        if self.floor > limit and not self.monotone:
            self.start, where = self._cheapest(), "at the cheapest that was found"
            self.floor = self.cost(self.start)
        if self.floor > limit:
            metric = METRICS[self.metric]
            of = metric.noun or metric.units[-1].symbol
            asked, least = (
                (f"{x:,.0f}" if x >= 1e4 else f"{x:.4g}") + (of and f" {of}")
                for x in (limit, self.floor)
            )
            what = "limit" if metric.noun else metric.title or self.metric
            raise BudgetError(
                f"a {what} of {asked} cannot be met: {where} the network still has {least}"
                f" ({self.floor / self.base:.1%} of the base); raise the target,"
                " lower --keep-min or add a knob"
            )
        self.limit = limit
        room = 1 / max((len(decision.values) for _, decision in self.all()), default=1)
        self.centre = np.zeros_like(self.centre)
        even = self.uniform_action(limit)
        self.even = self.cost(self._assigned(even)) <= limit
        uniform = self._within(self._assigned(even), limit)
        for place, decision in self.all():
            chosen = decision.chosen(uniform)
            raw = even if decision.choice(even) == chosen else decision.action(chosen)
            # The action, or one that makes the same choice, with room on both sides of it.
            self.centre[place] = np.clip(raw, room - 1, 1 - room)

    def _lowest(self, problem: Problem) -> Assignment:
        """Everything undecided at its lowest; what has no knob at its fixed value."""
        at = Assignment(
            self.graph.full_counts(),
            {layer.name: problem.fixed_bits[0] for layer in self.graph.layers},
            {layer.name: problem.fixed_bits[1] for layer in self.graph.layers},
            problem.round_to,
        )
        edges = {self.graph.layers[0].name, self.graph.layers[-1].name}
        for kind, bits in (("weight_bits", at.weight_bits), ("act_bits", at.act_bits)):
            if kind in problem.knobs:
                bits.update(dict.fromkeys(edges, problem.edge_bits))
        for _, decision in self.all():
            decision.set(at, 0)
        return at

    def _cheapest(self) -> Assignment:
        """Where no other choice of a single decision, of at most ``TRIED`` each, is cheaper."""
        at, cheaper = self.start.copy(), True
        while cheaper:
            cheaper = False
            for _, decision in self.all():
                found = least, chosen = self.cost(at), decision.chosen(at)
                for choice in _spread(len(decision.values) - 1):
                    decision.set(at, choice)
                    found = min(found, (self.cost(at), choice))
                decision.set(at, found[1])
                cheaper = cheaper or found < (least, chosen)
        return at

    def all(self) -> Iterator[tuple[tuple[int, int], Decision]]:
        """Every decision in the order of the steps, with its step and its place in the action."""
        for step, (_, row) in enumerate(self.steps):
            for place, decision in enumerate(row):
                if decision is not None:
                    yield (step, place), decision

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
        executed, levels = np.zeros(len(self.knobs), np.float32), []
        for place, decision in enumerate(self.steps[step][1]):
            if decision is None:
                levels.append(-1.0)
                continue
            wanted = self.choice(decision, action[place])
            taken = wanted
            if self.clips and self.limit is not None:
                taken = self._largest(decision, wanted, at, self.limit)
            decision.set(at, taken)
            executed[place] = action[place] if taken == wanted else self.action_of(decision, taken)
            levels.append(decision.level(taken))
        return at, executed, levels

    def choice(self, decision: Decision, action: float) -> int:
        """The choice that an action in [-1, 1] asks for."""
        return decision.choice(self._raw(decision, float(action)))

    def choices(self, decision: Decision, actions: np.ndarray) -> np.ndarray:
        """``choice`` of every one of the actions ``[B]``."""
        raw, parts = self._raw(decision, np.asarray(actions, np.float64)), len(decision.values)
        return np.minimum(((raw + 1) / 2 * parts).astype(int), parts - 1)

    def middles(self, decision: Decision) -> np.ndarray:
        """``action_of`` of every choice, in order."""
        return np.array(
            [self.action_of(decision, choice) for choice in range(len(decision.values))]
        )

    def action_of(self, decision: Decision, choice: int) -> float:
        """The action in [-1, 1] that stands for a choice: of the middle of its raw part."""
        centre = self.centre[self._place[decision]]
        away = decision.action(choice) - centre
        return away / (1 + centre if away <= 0 else 1 - centre)

    def raw(self, actions: np.ndarray) -> np.ndarray:
        """The raw actions of actions ``[..., L, K]``: the same whatever the limit, choice by
        choice."""
        return _stretched(self.centre, actions)

    def _raw(self, decision: Decision, actions: Any) -> Any:
        return _stretched(self.centre[self._place[decision]], actions)

    def uniform(self, limit: float | None) -> Assignment:
        """The policy of ``uniform_action``: the control that every search has to beat.

        Where no uniform one is within the limit, as far as latency goes: ``narrowed``, decided
        step by step.
        """
        at = self._assigned(self.uniform_action(limit))
        return at if limit is None else self._within(at, limit)

    def _within(self, at: Assignment, limit: float) -> Assignment:
        if self.cost(at) <= limit:
            return at
        wanted, at = self.narrowed(limit), self.start.copy()
        for _, decision in self.all():
            decision.set(at, self._largest(decision, decision.chosen(wanted), at, limit))
        return at

    def narrowed(self, limit: float) -> Assignment:
        """From the highest choices down to a limit, by what saves most of the metric for its share
        of a decision's level (as NetAdapt does it, arXiv 1804.03230, with levels for accuracy).

        The quarter of the decisions that is best at it goes down at a time. What ``start`` has
        where that does not reach the limit.
        """
        at = self._assigned(1.0)
        while (cost := self.cost(at)) > limit:
            savings = []
            for _, decision in self.all():
                chosen = decision.chosen(at)
                for choice in _spread(chosen)[:-1]:
                    decision.set(at, choice)
                    lost = np.log(decision.level(chosen) / decision.level(choice))
                    savings.append(((cost - self.cost(at)) / lost, decision, choice))
                decision.set(at, chosen)
            best = sorted((each for each in savings if each[0] > 0), key=lambda each: -each[0])
            if not best:
                return self.start.copy()
            first: dict[Decision, int] = {}
            for _, decision, choice in best:
                first.setdefault(decision, choice)
            for decision, choice in list(first.items())[: max(len(self._place) // 4, 1)]:
                decision.set(at, choice)
                if self.cost(at) <= limit:
                    break
        return at

    def uniform_action(self, limit: float | None) -> float:
        """The same raw action at every step: the largest whose policy meets ``limit``.

        Taken step by step, it meets it at every step too, so that nothing of it is clipped.
        That of the lowest choices if nothing larger fits.
        """
        if limit is None:
            return 1.0
        return largest_that_fits(
            np.linspace(-1, 1, 1001).tolist(),
            lambda action: self.meets(np.full(len(self._place), action), limit),
            monotone=self.monotone,
        )

    def meets(self, raw: Sequence[float] | np.ndarray, limit: float) -> bool:
        """Whether raw actions, one for each of ``all()``, meet a limit without being clipped.

        Of a metric that a larger choice may lower, every step has to meet it.
        """
        at, gradual = self.start.copy(), not self.monotone
        for (_, decision), action in zip(self.all(), raw, strict=True):
            decision.set(at, decision.choice(action))
            if gradual and self.cost(at) > limit:
                return False
        return self.cost(at) <= limit

    def lowered(self, at: Assignment) -> Assignment:
        """Within the limit: one choice lower, decision after decision and again from the first,
        until it is met (HAQ, arXiv 1811.08886, section 3.3)."""
        at = at.copy()
        while self.limit is not None and self.cost(at) > self.limit:
            if not any(decision.chosen(at) for _, decision in self.all()):
                return self.start.copy()
            for _, decision in self.all():
                decision.set(at, max(decision.chosen(at) - 1, 0))
                if self.cost(at) <= self.limit:
                    break
        return at

    def _assigned(self, raw: float) -> Assignment:
        at = self.start.copy()
        for _, decision in self.all():
            decision.set(at, decision.choice(raw))
        return at

    def _largest(self, decision: Decision, wanted: int, at: Assignment, limit: float) -> int:
        """The largest choice up to ``wanted`` that meets a limit, which ``at`` does; the next one
        above, where lower ones are dearer and none does."""
        trial = at.copy()

        def fits(choice: int) -> bool:
            decision.set(trial, choice)
            return self.cost(trial) <= limit

        found = largest_that_fits(range(wanted + 1), fits, monotone=self.monotone)
        if self.monotone or fits(found):
            return found
        return next(filter(fits, range(wanted + 1, len(decision.values))), decision.chosen(at))


def _spread(last: int) -> list[int]:
    """Choices from 0 to ``last``, ``TRIED`` at most."""
    return np.linspace(0, last, min(last + 1, TRIED)).round().astype(int).tolist()


def _stretched(centre: Any, actions: Any) -> Any:
    return centre + actions * np.where(actions <= 0, 1 + centre, 1 - centre)
