"""Limits that every episode draws for itself, or is given: they hold, and the agent sees them."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import agents
from agents import AgentError, DDPGOptions, FrontOptions
from agents.rl.trained import Trained
from envs import Problem
from envs.observation import AMC_FEATURES, KINDS
from envs.problem import ProblemError
from pfrl.cost import Budget, BudgetError
from pfrl.files import FileError
from tests.support.toy import ToyTask

HALF = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
MANY = Problem(ToyTask(), budget=Budget("macs", 0.5, True), limits=(0.3, 0.8))
LIMIT = len(AMC_FEATURES) + len(KINDS)
QUICK = DDPGOptions(hidden=(16, 16), batch=8, screen=8)


def made(problem: Problem, name: str = "pfrl/Compression-v0") -> Any:
    return gymnasium.make(name, problem=problem).unwrapped


def played(env: Any, action: float, **reset: Any) -> tuple[float, dict[str, Any]]:
    """The limit that the agent saw, and the last info, of an episode of one action."""
    observation, begun = env.reset(**reset)
    seen, terminated, info = float(observation[LIMIT]), False, {}
    while not terminated:
        observation, _, terminated, _, info = env.step(np.full(1, action, np.float32))
        assert observation[LIMIT] == np.float32(seen)
    assert info.get("limit") == begun.get("limit")
    return seen, info


def test_episodes_draw_their_limits_and_meet_them():
    env = made(MANY)
    base = env.decisions.base
    drawn = []
    for number in range(20):
        seen, info = played(env, 1.0, seed=3 if number == 0 else None)
        assert seen == pytest.approx(info["limit"])
        spent = info["evaluation"].costs["macs"] / base
        # All asks for everything, so less than a channel, 7 of 448 MACs, is left.
        assert info["limit"] - 7 / 448 < spent <= info["limit"]
        drawn.append(info["limit"])
    assert 0.3 <= min(drawn) < 0.4 and 0.7 < max(drawn) <= 0.8
    again = [played(env, 1.0, seed=3 if n == 0 else None)[1]["limit"] for n in range(3)]
    assert again == drawn[:3]


def test_action_0_is_the_uniform_policy_of_the_limit_of_the_episode():
    env = made(HALF)
    for limit in (0.4, 0.7):
        _, info = played(env, 0.0, options={"limit": limit})
        uniform = env.decisions.uniform(limit * env.decisions.base)
        assert info["limit"] == pytest.approx(limit)
        assert info["policy"] == uniform.policy(env.decisions.graph)
    # Absolute, and then the problem's own again.
    assert played(env, 0.0, options={"limit": 0.6 * env.decisions.base})[0] == pytest.approx(0.6)
    seen, info = played(env, 0.0)
    assert seen == 0.5 and "limit" not in info


def test_a_policy_is_decided_without_an_evaluation_under_any_limit(monkeypatch):
    env = made(MANY)
    _, info = played(env, 0.3, options={"limit": 0.37})
    monkeypatch.setattr(type(env.problem.open().evaluator), "evaluate", None)
    assert env.decide(lambda observation: np.full(1, 0.3), 0.37) == info["policy"]


def test_raw_actions_are_the_same_at_every_limit():
    env = made(MANY)
    asked = np.zeros((1, env.steps, 1), np.float32)
    found = []
    for limit in (0.7, 0.4):
        env.reset(options={"limit": limit})
        small = np.clip(asked - 0.9, -1, 1)  # nearly everything at its lowest: clipped by no limit
        found.append(env.raw(env.canonicalize(env.project(small))))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_the_registered_name_draws_whatever_can_be_met():
    env = made(HALF, "pfrl/AnyBudget-v0")
    low, high = env.limits
    assert (low, high) == (env.decisions.floor, env.decisions.base)
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: made(Problem(ToyTask()), "pfrl/AnyBudget-v0"), "needs a budget"),
        (lambda: made(Problem(ToyTask())).reset(options={"limit": 0.5}), "give it a budget"),
        (lambda: made(HALF).reset(options={"limit": 0.01}), "cannot be met"),
        (lambda: Problem(ToyTask(), limits=(0.2, 0.5)), "limits need a budget"),
        (lambda: Problem(ToyTask(), budget=HALF.budget, limits=(0.5, 0.2)), "ascending"),
        (lambda: made(Problem(ToyTask(), budget=HALF.budget, limits=(0.01, 0.2))), "cannot be met"),
        (lambda: gymnasium.make_vec("pfrl/Compression-v0", 2, problem=MANY), "one by one"),
        (lambda: agents.search("evolution", MANY, 2, 0), "is for one limit; for several"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(make, sentence):
    with pytest.raises((ProblemError, BudgetError, AgentError), match=sentence):
        make()


def test_one_search_for_every_limit_is_the_same_under_one_seed():
    first, second = (agents.search("ddpg", MANY, 12, 4, options=QUICK) for _ in range(2))
    assert [e.limit for e in first.history] == [e.limit for e in second.history]
    assert [e.policy for e in first.history] == [e.policy for e in second.history]
    assert len({e.limit for e in first.history}) == 12
    base = MANY.open().costs.base["macs"]
    assert all(e.evaluation.costs["macs"] <= (e.limit or 0) * base for e in first.history)
    assert first.history[3].to_json()["limit"] == first.history[3].limit
    other = agents.search("ddpg", MANY, 3, 5, options=QUICK)
    assert other.history[0].limit != first.history[0].limit


def test_the_actor_of_the_file_plays_the_last_episode_again(tmp_path):
    for name in ("ddpg", "sac", "tqc", "ppo"):
        options = QUICK if name == "ddpg" else None
        result = agents.search(name, MANY, 6, 0, options=options)
        loaded = Trained.load(result.trained.save(tmp_path / "agent.npz"))
        assert result.final.limit is not None
        policy = made(MANY).decide(loaded.act, result.final.limit)
        assert policy == result.final.policy, name


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FileError, match="holds no trained agent"):
        Trained.load(tmp_path / "other.npz")


def test_searches_for_a_front_play_under_the_highest_limit():
    for name in ("nsga2", "motpe"):
        found = agents.search(name, MANY, 8, 0, options=FrontOptions(start_uniform=4))
        assert {e.limit for e in found.history} == {0.8}
        costs = [e.evaluation.costs["macs"] for e in found.history[:4]]
        assert costs == sorted(costs, reverse=True) and costs[0] <= 0.8 * 448
