"""The integer program against brute force, and the agent that measures and solves."""

import itertools

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the environment)
from agents import SolverOptions, best_of, search_environment
from agents.base import PROBE, AgentError, Episode
from agents.search.exact import Costs, costs_of, solve
from envs import Problem
from envs.decisions import Decisions
from pfrl.compression.policy import Policy
from pfrl.cost import Budget, CostModel
from pfrl.evaluation.config import Evaluation
from pfrl.graph import trace
from tests.support.tiny import TwoConvs, made, shape
from tests.support.toy import SIZES, ToyTask, optimum

HALF = Problem(ToyTask(), ("keep",), Budget.parse("macs=0.5"))


def brute_force(losses, costs, limit):
    """The smallest total loss that the limit allows."""
    return min(
        sum(own[c] for own, c in zip(losses, choices, strict=True))
        for choices in itertools.product(*(range(len(own)) for own in losses))
        if costs.of(np.array(choices)) <= limit
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_solution_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, 5)
    single = [np.append(0, rng.uniform(0, 5, n - 1)).cumsum() for n in sizes]
    pairs = {(0, 1): 0.0, (1, 3): 0.0, (2, 4): 0.0}
    tables = {(d, e): np.outer(single[d], single[e]) for d, e in pairs}
    costs = Costs(3.0, single, tables)
    losses = [np.sort(rng.uniform(0, 1, n))[::-1] for n in sizes]
    highest = costs.of(sizes - 1)
    for share in (0.2, 0.5, 0.9, 1.0):
        limit = max(share * highest, 3.0 * (1 + 1e-6))
        found = solve(losses, costs, limit)
        assert found is not None and costs.of(found) <= limit
        total = sum(own[c] for own, c in zip(losses, found, strict=True))
        assert total == pytest.approx(brute_force(losses, costs, limit), abs=1e-3)
    assert solve(losses, costs, 2.0) is None


@pytest.mark.parametrize("metric", ["macs", "params", "bops"])
def test_costs_are_the_sum_of_decisions_and_of_pairs(metric):
    """Of convolutions, whose MACs are products of two counts."""
    graph = trace(made(TwoConvs), shape(1, 8, 8, 1))
    problem = Problem(ToyTask(), ("keep",), Budget(metric, 0.5, True))
    decisions = Decisions(problem, graph, CostModel(graph))
    costs = costs_of(decisions)
    assert len(costs.pairs) == 1
    every = [decision for _, decision in decisions.all()]
    rng = np.random.default_rng(0)
    for _ in range(20):
        choices = np.array([rng.integers(len(decision.values)) for decision in every])
        at = decisions.start.copy()
        for decision, choice in zip(every, choices, strict=True):
            decision.set(at, int(choice))
        assert costs.of(choices) == pytest.approx(decisions.cost(at))


def env(problem=HALF):
    return gymnasium.make("pfrl/Compression-v0", problem=problem)


def test_the_toy_is_solved_at_its_first_solution():
    """Losses of the toy do add up; with probes of every choice they are known exactly."""
    choices = sum(size - np.ceil(0.2 * size).astype(int) for size in SIZES)
    found = search_environment("solver", env(), 90, 0, options=SolverOptions(probes=0.9))
    best = optimum(sum(SIZES) / 2, HALF.keep_min)
    probes = [episode for episode in found.history if episode.phase == PROBE]
    assert 1 < len(probes) <= min(0.9 * 90, choices + 1)
    assert found.history[len(probes)].reward > 0.995 * best
    assert found.best.reward <= best + 1e-9
    assert found.best.phase == "explore"
    assert found.best.evaluation.costs["macs"] <= probes[0].evaluation.costs["macs"] / 2


@pytest.mark.parametrize("episodes", [1, 5, 20, pytest.param(60, marks=pytest.mark.ci)])
def test_exactly_so_many_episodes_within_the_budget(episodes):
    found = search_environment("solver", env(), episodes, 0)
    assert len(found.history) == episodes
    solutions = [episode for episode in found.history if episode.phase != PROBE]
    whole = CostModel(ToyTask().open().graph).base["macs"]
    assert solutions and all(e.evaluation.costs["macs"] <= whole / 2 for e in solutions)
    again = search_environment("solver", env(), episodes, 0)
    assert [e.policy for e in again.history] == [e.policy for e in found.history]
    if episodes == 60:
        assert found.best.reward > 0.99 * optimum(sum(SIZES) / 2, HALF.keep_min)


def test_without_a_budget_there_is_nothing_to_solve():
    with pytest.raises(AgentError, match="the agent solver solves for a budget"):
        search_environment("solver", env(Problem(ToyTask(), ("keep",))), 10, 0)


def test_a_probe_is_never_the_best():
    def episode(phase, reward, diverged=False):
        return Episode(0, phase, Policy(), reward, Evaluation(reward, {}, 0.0, diverged))

    probe, lost, found = episode(PROBE, 0.9), episode("explore", 0.2, True), episode("explore", 0.1)
    assert best_of([probe, lost, found]) is found
    assert best_of([probe, lost]) is lost
