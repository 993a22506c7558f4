"""Quality a second: how long searchers take to get to the same accuracy, for ``make bench``."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import agents
from envs import Problem
from experiments.run.recorded import recorded_search
from experiments.studies.sweep.curves import Curve, Point, Taken, common_accuracy, taken
from pfrl.compression.policy import Policy

SEARCHERS = ("ddpg", "evolution", "random")


class Quality(NamedTuple):
    """What a searcher's median search took to an accuracy that all reach.

    Attributes:
      agent: its name.
      final: mean accuracy that its searches end with.
      taken: until the common accuracy.
    """

    agent: str
    final: float
    taken: Taken


def search_quality(
    problem: Problem, episodes: int, seeds: Sequence[int], names: Sequence[str] = SEARCHERS
) -> tuple[float, list[Quality]]:
    """Search with every agent and seed, after one evaluation that compiles.

    Returns:
      the accuracy that all are timed to, and a row an agent.
    """
    opened = problem.open()
    opened.evaluator.score(Policy.uniform(opened.graph), "reward")
    curves = {name: [_curve(name, problem, episodes, s) for s in seeds] for name in names}
    ends = {name: [curve[-1].accuracy for curve in found] for name, found in curves.items()}
    goal = common_accuracy(ends.values())
    rows = [Quality(n, sum(ends[n]) / len(seeds), taken(curves[n], goal)) for n in names]
    return goal, rows


def _curve(name: str, problem: Problem, episodes: int, seed: int) -> list[Point]:
    agents.load(name)
    with TemporaryDirectory() as folder:
        curve = Curve(problem.open().evaluator)
        history = Path(folder) / "history.jsonl"
        recorded_search(name, problem, episodes, seed, history, curve.episode)
        return curve.ended()
