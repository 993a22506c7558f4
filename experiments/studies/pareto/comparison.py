"""One search for every limit against a search for each: the same evaluations in all.

Of either, what it has for a limit is the best policies of all its evaluations that meet the limit
and, of an agent that learned for all of them, what it decides there without an evaluation. All of
these are scored again alike, on held-out images, and the best score is what the method is worth at
the limit.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import agents
from agents import Episode, SearchResult
from envs import Problem
from experiments.run.recorded import recorded_search
from experiments.studies.pareto.limits import answers, feasible
from pfrl.compression.policy import Policy
from pfrl.cost import Budget

EIGHT = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Method(NamedTuple):
    """One job of the comparison."""

    agent: str
    """Who searches."""
    one: bool
    """Whether one search serves all limits; else each limit has its own."""
    seed: int


def compare(
    problem: Problem,
    job: Method,
    limits: Sequence[float] = EIGHT,
    each: int = 60,
    candidates: int = 2,
    rescore_steps: int = 128,
    options: Any = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """What a method is worth; the work of a study's job.

    Args:
      problem: its budget tells the metric.
      job: the method.
      limits: shares of the base.
      each: evaluations a limit; one search for all has those of all.
      candidates: policies that are scored again at each limit: a plan, if there is one, and the
        best that were evaluated.
      rescore_steps: of fine-tuning before that.
      options: of the agent.
      folder: of the searches' histories, from which a comparison that was stopped goes on; None
        keeps none.

    Returns:
      ``quality``, the mean over the limits; ``hypervolume`` of what was found, between the lowest
      limit and the base's cost; ``evaluated``, ``planned`` and ``actor``, the means of what was
      evaluated, of the agent's plans and of its actor's decisions alone (None without any);
      ``at``, qualities by limit; ``evaluations``.
    """
    assert problem.budget is not None
    metric, opened = problem.budget.metric, problem.open()
    result, history = _searched(problem, job, limits, each, options, folder)
    scores: dict[str, float] = {}

    def score(policy: Policy) -> float:
        key = str(policy.to_json())
        if key not in scores:
            judged = opened.evaluator.score(policy, "held_out", rescore_steps)
            scores[key] = judged.quality if judged.finite else 0.0
        return scores[key]

    acted, planned = (
        [
            score(a.policy)
            for a in ([] if result is None else answers(result, problem, limits, plan=p))
        ]
        for p in (False, True)
    )
    base = opened.costs.base[metric]
    count = candidates - bool(planned)
    evaluated = [
        max((score(e.policy) for e in feasible(history, metric, s * base, count)), default=0.0)
        for s in limits
    ]
    best = [max(both) for both in zip(evaluated, planned or evaluated, strict=True)]
    return {
        "quality": _mean(best),
        "hypervolume": hypervolume(list(zip(limits, best, strict=True))),
        "evaluated": _mean(evaluated),
        "planned": _mean(planned) if planned else None,
        "actor": _mean(acted) if acted else None,
        "at": {f"{limit:g}": quality for limit, quality in zip(limits, best, strict=True)},
        "evaluations": len(history),
    }


def hypervolume(points: Sequence[tuple[float, float]]) -> float:
    """Of ``(cost, quality)``, costs as shares: the mean over costs up to 1, from the lowest of
    the points on, of the best quality that costs no more."""
    ordered = sorted(points)
    ends = [*(cost for cost, _ in ordered[1:]), 1.0]
    area, best = 0.0, 0.0
    for (cost, quality), end in zip(ordered, ends, strict=True):
        best = max(best, quality)
        area += best * (end - cost)
    return area / (1 - ordered[0][0])


def _searched(
    problem: Problem,
    job: Method,
    limits: Sequence[float],
    each: int,
    options: Any,
    folder: Path | None,
) -> tuple[SearchResult | None, list[Episode]]:
    """The one search, if there is one, and all episodes."""
    assert problem.budget is not None

    def search(problem: Problem, episodes: int, name: str) -> SearchResult:
        if folder is None:
            return agents.search(job.agent, problem, episodes, job.seed, options=options)
        history = folder / name / "history.jsonl"
        return recorded_search(job.agent, problem, episodes, job.seed, history, options=options)

    if job.one:
        every = replace(problem, limits=(min(limits), max(limits)))
        result = search(every, each * len(limits), ".")
        return result, result.history
    episodes = []
    for limit in limits:
        own = replace(problem, budget=Budget(problem.budget.metric, limit, True), limits=None)
        episodes += search(own, each, f"{limit:g}").history
    return None, episodes


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
