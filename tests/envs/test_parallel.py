"""PPO's rollouts side by side: as many episodes, all on record, the same for the same seed."""

import numpy as np
import pytest

import agents
from agents import AgentError, PPOOptions
from envs import Problem
from envs.evaluations import Evaluations
from experiments.settings.blocks import SettingsError
from experiments.settings.compression import CompressSettings
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from tests.envs.test_env import network_task
from tests.support.share_toy import Toy
from tests.support.toy import ToyTask

HALF = Budget("macs", 0.5, True)
TOY = Problem(ToyTask(), budget=HALF)


@pytest.fixture
def here(monkeypatch):
    """Evaluations in this process: others take seconds to start."""
    monkeypatch.setattr("envs.vector.usual_workers", lambda policies: 1)


def searched(episodes: int, parallel: int, seed: int = 0, on_episode=None):
    options = PPOOptions(parallel=parallel)
    return agents.search("ppo", TOY, episodes, seed, on_episode, options=options)


def lines(result):
    return [episode.to_json() for episode in result.history]


@pytest.mark.parametrize("episodes", [1, 2, 5, 30])
def test_it_evaluates_exactly_as_many_episodes_as_it_is_given(episodes, here):
    told = []
    result = searched(episodes, 4, on_episode=told.append)
    assert told == result.history and len(told) == episodes
    assert [episode.index for episode in told] == list(range(episodes))
    assert told[-1].phase == "final"
    assert lines(searched(episodes, 4)) == lines(result)


def test_a_search_by_batches_learns(here):
    """The last hundred episodes are better than the first, by far more than chance."""
    rewards = np.array([episode.reward for episode in searched(401, 4).history])
    first, second = rewards[1:100], rewards[-100:]
    error = np.hypot(first.std(), second.std()) / 10
    assert second.mean() > first.mean() + 4 * error


def test_worker_processes_find_what_this_process_finds(monkeypatch):
    found = lines(searched(9, 4))
    monkeypatch.setattr("envs.vector.usual_workers", lambda policies: 1)
    assert lines(searched(9, 4)) == found


def test_only_problems_are_played_side_by_side():
    with pytest.raises(AgentError, match="take parallel=1"):
        agents.search_environment("ppo", Toy(), 9, 0, options=PPOOptions(parallel=2))


def test_workers_do_not_make_again_what_is_on_record():
    graph, _, evaluator, _ = TOY.open()
    evaluations = Evaluations(TOY, 2)
    policies = [Policy.uniform(graph, keep) for keep in (0.3, 0.5, 0.7)]
    try:
        alone = [evaluator.evaluate(policy) for policy in policies]
        known = alone[0]._replace(accuracy=0.125)
        evaluator.resume([(policies[0].to_json(), known)])
        assert evaluations(policies) == [known, *alone[1:]]
        assert evaluations(policies) == alone
    finally:
        evaluations.close()


@pytest.mark.slow  # every worker compiles the network
def test_workers_judge_by_the_runtime_that_this_process_chose():
    """Measured anew it could be another in every process, and accuracies differ by an image."""
    problem = Problem(network_task(), budget=HALF)
    graph, _, evaluator, _ = problem.open()
    evaluations = Evaluations(problem, 2)
    policies = [Policy.uniform(graph, keep) for keep in (0.4, 0.6)]
    try:
        found = [evaluation.accuracy for evaluation in evaluations(policies)]
    finally:
        evaluations.close()
    assert found == [evaluator.evaluate(policy).accuracy for policy in policies]


def test_other_agents_are_not_played_side_by_side():
    with pytest.raises(SettingsError, match=r"for the agent ppo alone; got 2 for ddpg"):
        CompressSettings(parallel=2).resolved()
    assert CompressSettings(parallel=2, agent="ppo").resolved().parallel == 2
