"""How a budget is kept: by projection, by lowering or by a penalty; and hidden observations."""

from typing import Any

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the environment)
from envs import Problem
from envs.observation import HIDEABLE
from envs.problem import ProblemError
from pfrl.cost import Budget
from tests.support.toy import ToyTask

HALF = Budget.parse("macs=0.5")


def made(**fields) -> Any:
    return gymnasium.make("pfrl/Compression-v0", problem=Problem(ToyTask(), **fields)).unwrapped


def played(env, action=1.0):
    """Observations, executed actions and the last info of an episode of one action."""
    seen, executed = [env.reset()[0]], []
    while True:
        observation, reward, terminated, _, info = env.step(np.full(env.action_space.shape, action))
        seen.append(observation)
        executed.append(info["executed_action"])
        if terminated:
            return np.stack(seen), np.stack(executed), reward, info


@pytest.mark.parametrize("kept_by", ["projection", "lowering"])
def test_the_policy_meets_the_limit_either_way(kept_by):
    env = made(budget=HALF, kept_by=kept_by)
    _, executed, _, info = played(env)
    assert info["evaluation"].costs["macs"] <= env.decisions.limit
    # What is lowered in the end was executed as it was asked for.
    assert (executed[env.live] == 1).all() == (kept_by == "lowering")


def test_lowering_takes_one_choice_of_each_decision_in_turn():
    """So no two decisions that could be lowered differ by more than one choice in the end."""
    env = made(budget=HALF, kept_by="lowering")
    at = env.decisions.start.copy()
    every = [decision for _, decision in env.decisions.all()]
    for decision in every:
        decision.set(at, len(decision.values) - 1)
    lowered = env.decisions.lowered(at)
    steps = [
        len(decision.values) - 1 - decision.chosen(lowered)
        for decision in every
        if decision.chosen(lowered) > 0
    ]
    assert max(steps) - min(steps) <= 1
    assert steps == sorted(steps, reverse=True)
    assert env.decisions.cost(lowered) <= env.decisions.limit < env.decisions.cost(at)


def test_a_penalty_is_the_excess_as_a_share_of_the_limit():
    env = made(budget=HALF, kept_by="penalty")
    _, _, reward, info = played(env)
    macs = info["evaluation"].costs["macs"]
    assert macs == env.decisions.base  # nothing is clipped
    assert reward == pytest.approx(info["evaluation"].accuracy - 1)
    _, _, reward, info = played(env, -1.0)
    assert reward == info["evaluation"].accuracy


@pytest.mark.parametrize("name", ["macs", "left", "decided"])
def test_hidden_observations_are_zero_and_the_others_stay(name):
    plain, _, _, _ = played(made(budget=HALF), 0.3)
    hidden, _, _, _ = played(made(budget=HALF, hidden=(name,)), 0.3)
    gone = np.zeros(plain.shape[1], bool)
    if name == "decided":
        gone[len(HIDEABLE) :] = True  # behind the one knob's flag, which takes its name's place
    else:
        gone[HIDEABLE.index(name)] = True
    assert (hidden[:, gone] == 0).all() and (plain[:, gone] != 0).any()
    np.testing.assert_array_equal(hidden[:, ~gone], plain[:, ~gone])


def test_an_unknown_observation_is_refused():
    with pytest.raises(ProblemError, match="there is no observation 'colour' to hide"):
        made(hidden=("colour",))
