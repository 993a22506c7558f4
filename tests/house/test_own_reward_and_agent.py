"""A user's own reward and agent: one file, registered from outside the package, used by name."""

import numpy as np
import pytest

import agents
from agents import AGENTS, AgentError
from envs import Problem
from envs.problem import ProblemError
from envs.rewards import REWARDS
from experiments.run.inputs import needs_latency
from experiments.settings.compression import CompressSettings
from experiments.studies.sweep.searches import SweepSettings
from pfrl.cost import Budget
from pfrl.registry import RegistryError, load_plugin, register
from tests.support.toy import ToyTask

PLUGIN = """
from dataclasses import dataclass

import numpy as np

import pfrl
from agents import Agent
from agents.base import play
from envs.rewards import Reward


@pfrl.register("reward", "frugal")
def frugal(evaluation, base):
    '''Accuracy less a tenth of the MACs that are left.'''
    return evaluation.accuracy - 0.1 * evaluation.costs["macs"] / base.costs["macs"]


pfrl.register("reward", "speedy", Reward(frugal, needs=("latency",)))


@pfrl.register("agent", "halves")
def search_halves(env, episodes, seed, options, tensorboard):
    '''The same action at every step, from the lowest to the highest.'''
    for level in np.linspace(-1, 1, episodes):
        play(env, lambda observation: np.full(env.knobs, level, np.float32))


@dataclass(frozen=True)
class Level:
    level: float = 0.0


@pfrl.register("agent", "one_level")
def search_level(env, episodes, seed, options, tensorboard):
    play(env, lambda observation: np.full(env.knobs, options.level, np.float32))


pfrl.register("agent", "one_level", Agent(search_level, Level, rule="one level everywhere"))
"""
HALF = Problem(ToyTask(), budget=Budget("macs", 0.5, True))


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(PLUGIN)
    load_plugin(path)


def test_an_own_agent_searches_for_an_own_reward():
    problem = Problem(ToyTask(), budget=Budget("macs", 0.5, True), reward="frugal")
    result = agents.search("halves", problem, 5, seed=0)
    assert [episode.index for episode in result.history] == list(range(5))
    base = problem.open().costs.base["macs"]
    for episode in result.history:
        evaluation = episode.evaluation
        paid = evaluation.accuracy - 0.1 * evaluation.costs["macs"] / base
        assert episode.reward == pytest.approx(paid)
        assert evaluation.costs["macs"] <= base / 2
    # The third of five plays action 0, half of every group; those after it are cut to the budget.
    assert result.best.index == 2
    assert result.best.evaluation.accuracy == pytest.approx(0.5**0.5)


def test_options_of_an_own_agent():
    level = AGENTS["one_level"].options
    assert level is not None
    found = [
        agents.search("one_level", HALF, 1, 0, options=level(x)).best.evaluation.costs["macs"]
        for x in (-1.0, 0.0)
    ]
    assert found[0] < found[1]
    with pytest.raises(AgentError, match="the agent halves takes no options, got Level"):
        agents.search("halves", HALF, 1, 0, options=level())


def test_commands_know_both_by_name():
    assert REWARDS["frugal"].wording == "Accuracy less a tenth of the MACs that are left."
    assert not needs_latency(CompressSettings(agent="halves", reward="frugal").resolved())
    assert needs_latency(CompressSettings(reward="speedy").resolved())
    assert SweepSettings(agents=("halves", "one_level", "ddpg")).agents[0] == "halves"
    kinds = {name: (AGENTS[name].learns, bool(AGENTS[name].rule)) for name in ("halves", "ddpg")}
    assert kinds == {"halves": (False, False), "ddpg": (True, False)}
    assert AGENTS["one_level"].rule and AGENTS["uniform"].rule


def test_what_a_reward_needs_and_names_that_are_taken():
    with pytest.raises(ProblemError, match="'speedy' needs a latency model and the task has none"):
        agents.search("random", Problem(ToyTask(), reward="speedy"), 1, 0)
    with pytest.raises(
        RegistryError, match=r"^agent 'ddpg' is there already \(agents.rl.options\)"
    ):
        register("agent", "ddpg", np.zeros)
