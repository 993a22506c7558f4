"""The walk of a policy stays short: few modules, and hardly one that is entered again."""

from benchmarks.walk import entries, returns, walk_of_a_policy
from envs.rewards import Reference, reward_of
from pfrl.evaluation.config import Evaluation


def test_calls_enter_modules_and_leaves_are_not_followed():
    base = Reference(0.9, {"macs": 8.0}, 0.0, 0.0)
    with entries() as walk:
        reward_of("accuracy", Evaluation(0.5, {}, 0.0, False), base)
        Evaluation(0.5, {}, 0.0, False)
    assert walk == ["envs.rewards"]
    assert returns(["a", "b", "a", "c", "b"]) == 2


def test_from_an_environment_to_a_reward():
    walk = walk_of_a_policy()
    assert walk[-1] == "envs.rewards" and "pfrl.evaluation.evaluator" in walk
    assert len(set(walk)) <= 7 and returns(walk) <= 3
