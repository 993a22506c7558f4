"""The walk of a policy: the modules between an environment and a reward.

``python -m benchmarks.walk`` plays an episode on a small network, follows the calls of its last
step, once everything is compiled, and prints the modules in the order in which they are entered.
A module is entered by a call from another one; what calls of its own return to is not counted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from envs import NetworkTask, Problem
from pfrl.cost import Budget
from pfrl.evaluation.config import EpisodeConfig
from pfrl.models.catalogue import pretrained_path

FLOORS = ("pfrl", "envs", "agents")


@contextmanager
def entries() -> Iterator[list[str]]:
    """The modules of ``FLOORS`` that this thread's calls enter meanwhile, in order."""
    walk: list[str] = []
    own = {floor: f"{floor}." for floor in FLOORS}

    def follow(frame: Any, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith(tuple(own.values())) and walk[-1:] != [name]:
            walk.append(name)

    sys.setprofile(follow)
    try:
        yield walk
    finally:
        sys.setprofile(None)


def returns(walk: list[str]) -> int:
    """How often a walk comes back to a module that it had left."""
    return len(walk) - len(set(walk))


def walk_of_a_policy() -> list[str]:
    """The modules between an environment's last step and its reward, everything compiled."""
    weights = pretrained_path("lenet5", "digits") or pretrained_path("resnet8", "digits")
    episode = EpisodeConfig(
        steps=1, batch=16, search_images=50, statistics_images=16, validation="xla"
    )
    task = NetworkTask("resnet8", "digits", str(weights), episode=episode)
    problem = Problem(task, budget=Budget("macs", 0.5, True))
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    play(env, env.step)

    def followed(action: np.ndarray) -> Any:
        with entries() as walk:
            env.step(action)
        return walk

    return play(env, followed)


def play(env: Any, last: Callable[[np.ndarray], Any]) -> Any:
    """An episode of the action 0, whose last step is taken by ``last``; returns what that does."""
    env.reset()
    action = np.zeros(env.action_space.shape, np.float32)
    for _ in range(env.steps - 1):
        env.step(action)
    return last(action)


if __name__ == "__main__":
    walk = walk_of_a_policy()
    print(*walk, sep="\n")
    print(f"{len(set(walk))} modules, {returns(walk)} returns to one that was left")
