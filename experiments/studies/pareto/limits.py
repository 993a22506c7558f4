"""What a search, or several, have for a limit: the best evaluated policies, and the actor's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium

import envs  # noqa: F401  (registers the environment)
from agents import Episode, SearchResult
from agents.base import PROBE
from envs import Problem
from pfrl.compression.policy import Policy

PLAN = "plan"
"""Stands for the number of an episode where a policy is an agent's plan."""
GRID = 200
"""The agent is asked at every multiple of 1 / GRID of the base's cost, within its limits."""


class Answer(NamedTuple):
    """What an agent that was trained for every limit decides under one; evaluated by nobody.

    Attributes:
      limit: a share of the base.
      policy: its decisions.
      costs: of the policy, by metric.
    """

    limit: float
    policy: Policy
    costs: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """One line of ``answers.jsonl``."""
        return {**self._asdict(), "policy": self.policy.to_json(), "costs": dict(self.costs)}


def feasible(history: Sequence[Episode], metric: str, limit: float, count: int) -> list[Episode]:
    """The ``count`` different policies of the highest rewards that cost at most ``limit``.

    Args:
      history: episodes in any order.
      metric: of the cost.
      limit: in the metric's unit.
      count: at most.
    """
    meet = [
        episode
        for episode in history
        if episode.evaluation.costs[metric] <= limit
        and episode.phase != PROBE
        and not episode.evaluation.diverged
    ]
    found: dict[str, Episode] = {}
    for episode in sorted(meet, key=lambda each: (-each.reward, each.index)):
        if len(found) < count:
            found.setdefault(str(episode.policy.to_json()), episode)
    return list(found.values())


def answers(
    result: SearchResult, problem: Problem, limits: Sequence[float], *, plan: bool
) -> list[Answer]:
    """What the search's agent decides at limits (shares of the base), without an evaluation.

    Args:
      plan: its plan, which weighs what the actor plays against what was evaluated; else, and
        without one, the deterministic actor's. Nothing if there is no actor either.
    """
    if result.trained is None:
        return []
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    costs = problem.open().costs
    found = []
    for limit in limits:
        if plan and result.plan is not None:
            policy = result.plan(env, limit)
        else:
            policy = env.decide(result.trained.act, limit)
        found.append(Answer(limit, policy, costs.of(policy)))
    return found


def grid(limits: tuple[float, float]) -> list[float]:
    """The limits at which an actor is asked, ascending; both ends are among them."""
    low, high = limits
    inner = [n / GRID for n in range(1, GRID + 1) if low < n / GRID < high]
    return sorted({low, *inner, high})
