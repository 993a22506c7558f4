"""A compression problem whose optimum is known, in the real environment: DDPG and PPO learn it."""

from functools import cache

import gymnasium
import jax
import numpy as np
import pytest
from flax import nnx

import agents
from envs import Problem
from envs.decisions import Decisions
from envs.problem import ProblemError
from pfrl.cost import Budget, CostModel
from pfrl.cost.model import Assignment
from pfrl.graph import trace
from tests.support.tiny import made, shape
from tests.support.toy import SIZES, ToyTask, optimum, toy_accuracy

EPISODES = 100
SEEDS = range(3)
HALF = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
BEST_COUNTS = (4, 8, 3, 8, 6, 3)


@cache
def searches(name: str) -> list[agents.SearchResult]:
    return [agents.search(name, HALF, EPISODES, seed) for seed in SEEDS]


def reached(name: str, which: str) -> float:
    """Mean over the seeds, as a share of the optimum, of the 'best' or the 'final' policy."""
    best = optimum(sum(SIZES) / 2, HALF.keep_min)
    return float(np.mean([getattr(result, which).reward for result in searches(name)])) / best


def test_the_optimum_is_what_it_is_said_to_be():
    # 32 of 64 channels. The groups worth 6 stay whole, the first, of 16 channels and worth 1, goes
    # down to keep_min (3.2, so 4). 12 channels are left for worths 1, 2 and 1 on 8, 16 and 8
    # channels: equal prices, so equal shares, 3/8.
    assert sum(BEST_COUNTS) == 32
    by_hand = ((4 / 16) ** 0.5 + 6 + 6 + (1 + 2 + 1) * (3 / 8) ** 0.5) / 17
    assert optimum(32, 0.2) == pytest.approx(by_hand)
    assert toy_accuracy(np.array(BEST_COUNTS) / SIZES) == pytest.approx(by_hand)
    assert optimum(64, 0.2) == 1


def test_the_environment_can_play_the_optimum_and_nothing_better_fits():
    graph, costs, evaluator, _ = HALF.open()
    decisions = Decisions(HALF, graph, costs)
    assert decisions.limit == costs.base["macs"] / 2 == 7 * 32
    at = decisions.start
    for step, ((_, (knob,)), count) in enumerate(
        zip(decisions.steps, [*BEST_COUNTS, 0], strict=True)
    ):
        action = 0.0 if knob is None else decisions.action_of(knob, knob.values.index((count,)))
        at, executed, _ = decisions.execute(step, [action], at)
        assert executed[0] == np.float32(action)
    evaluation = evaluator.evaluate(at.policy(graph))
    assert evaluation.costs["macs"] == decisions.limit
    assert evaluation.accuracy == pytest.approx(optimum(32, 0.2))


@pytest.mark.parametrize(
    ("name", "share"), [("ddpg", 0.98), pytest.param("ppo", 0.99, marks=pytest.mark.slow)]
)
def test_an_agent_comes_near_the_optimum_and_beats_random(name, share):
    assert reached(name, "best") >= share
    # What random search leaves to be gained, an agent at least halves.
    assert 1 - reached(name, "best") <= (1 - reached("random", "best")) / 2


@pytest.mark.parametrize("name", ["ddpg", pytest.param("ppo", marks=pytest.mark.ci)])
def test_the_trained_actor_itself_is_good(name):
    graph, costs, _, _ = HALF.open()
    decisions = Decisions(HALF, graph, costs)
    uniform = decisions.uniform(decisions.limit).policy(graph).counts(graph)
    control = toy_accuracy(np.array(list(uniform.values())) / SIZES) / optimum(32, HALF.keep_min)
    assert reached(name, "final") >= 0.95
    assert reached(name, "final") > control
    for result in searches(name):
        played = [episode.reward for episode in result.history]
        assert np.mean(played[-25:]) > np.mean(played[:25])


@pytest.mark.parametrize("name", ["ddpg", "random", pytest.param("ppo", marks=pytest.mark.ci)])
def test_no_episode_breaks_the_budget(name):
    graph, costs, _, _ = HALF.open()
    for result in searches(name):
        assert len(result.history) == EPISODES
        for episode in result.history:
            spent = costs.cost("macs", Assignment.of(episode.policy, graph))
            assert spent == episode.evaluation.costs["macs"] <= costs.base["macs"] / 2


def test_actions_outside_the_range_are_its_ends():
    graph, costs, _, _ = HALF.open()
    decisions = Decisions(Problem(ToyTask()), graph, costs)
    for action, count in ((-1.5, 4), (-1, 4), (1, 16), (1.5, 16)):
        at, executed, _ = decisions.execute(0, [action], decisions.start)
        assert at.counts["teeth.0"] == count
        assert executed[0] == np.clip(action, -1, 1)


class Halves(nnx.Module):
    """One layer with two groups: 4 of its 12 channels go one way and 8 another."""

    def __init__(self, rngs: nnx.Rngs):
        self.a = nnx.Linear(3, 12, rngs=rngs)
        self.b = nnx.Linear(4, 2, rngs=rngs)
        self.c = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.a(x))
        return self.b(x[:, :4]) + self.c(x[:, 4:])


def test_the_level_tells_choices_of_a_layer_with_two_groups_apart():
    graph = trace(made(Halves), shape(1, 3))
    problem = Problem(ToyTask(), round_to=4)
    (_, (knob,)), *_ = Decisions(problem, graph, CostModel(graph)).steps
    assert knob is not None and len(knob.names) == 2
    # The group of 4 stays whole, so the first of the two counts says nothing.
    assert knob.values == ((4, 4), (4, 8))
    assert [knob.level(choice) for choice in (0, 1)] == [8 / 12, 1]


def test_the_reward_latency_needs_a_latency_model():
    with pytest.raises(ProblemError, match="needs a latency model and the task has none"):
        gymnasium.make("pfrl/Compression-v0", problem=Problem(ToyTask(), reward="latency"))
