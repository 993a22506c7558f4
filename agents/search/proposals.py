"""Whole episodes as vectors: what the searchers that look at no observation play and learn from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from agents.base import Recorder


class Played(NamedTuple):
    """What an episode taught; D is the number of actions that decide something."""

    executed: np.ndarray
    """``[D]`` in [-1, 1]: the actions that the budget let happen."""
    reward: float
    """Finite. Of a diverged episode the lowest of those that did not diverge, so that it is
    avoided without an outlier in what a model of the reward is fitted to."""


def dimensions(env: Recorder) -> int:
    """D, the number of actions that decide something."""
    return int(env.live.sum())


def actions_of(env: Recorder, vector: np.ndarray) -> np.ndarray:
    """The actions ``[L, K]`` float32 of a vector ``[D]``: step by step, 0 where none is live."""
    actions = np.zeros(env.live.shape, np.float32)
    actions[env.live] = np.clip(vector, -1, 1)
    return actions


def play_vector(
    env: Recorder,
    vector: np.ndarray,
    phase: str = "explore",
    options: dict[str, Any] | None = None,
) -> Played:
    """One episode of the actions ``[D]`` in [-1, 1] (what lies outside is clipped).

    ``options`` are the environment's, such as a limit.
    """
    env.phase = phase
    env.reset(options=options)
    executed = np.zeros(env.live.shape)
    for step, action in enumerate(actions_of(env, vector)):
        executed[step] = env.step(action)[-1]["executed_action"]
    return Played(executed[env.live], _last_reward(env))


def limited(env: Recorder) -> bool:
    """Whether the environment has a budget and can tell what it would clip."""
    decisions = getattr(env.unwrapped, "decisions", None)
    return getattr(decisions, "limit", None) is not None and hasattr(env.unwrapped, "rollout")


def fits(env: Recorder, vector: np.ndarray) -> bool:
    """Whether the budget lets all actions ``[D]`` happen, without an evaluation."""
    actions = iter(asked := actions_of(env, vector))
    rollout: Callable[[Any], np.ndarray] = env.get_wrapper_attr("rollout")
    executed = rollout(lambda observation: next(actions))
    return np.array_equal(executed[env.live], asked[env.live])


def _last_reward(env: Recorder) -> float:
    last = env.history[-1]
    if not last.evaluation.diverged:
        return last.reward
    # Where all have diverged there is only the environment's own word for how bad that is.
    sound = [episode.reward for episode in env.history if not episode.evaluation.diverged]
    return min(sound, default=last.reward)
