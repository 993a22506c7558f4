"""The walk of a policy: the modules that it goes through between an environment and its reward.

``python -m benchmarks.walk`` plays an episode on a small network and follows the calls of its last
step, once everything is compiled. It prints the modules in the order in which calls enter them.
What ``LEAVES`` compute is not followed: formulas of methods, of tasks and of costs, whoever asks.
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

FLOORS = ("pfrl.", "envs.", "agents.")
LEAVES = (
    *(f"pfrl.{room}." for room in ("graph", "cpu", "models", "tasks", "data", "methods", "cost")),
    "pfrl.compression.policy",
    "pfrl.deploy.",
    "pfrl.registry",
)
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


@contextmanager
def entries() -> Iterator[list[str]]:
    """The modules that calls of this thread enter meanwhile, in order."""
    walk: list[str] = []
    within = 0
    """Frames of leaves, and of what they call, that are not left yet."""

    def follow(frame: Any, event: str, argument: Any) -> None:
        nonlocal within
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(FLOORS) or frame.f_code.co_name in COMPREHENSIONS:
            return
        if event == "return":
            within = max(within - 1, 0)
        elif event == "call" and (within or name.startswith(LEAVES)):
            within += 1
        elif event == "call" and walk[-1:] != [name]:
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
    """The modules from the first that evaluates to the one that rewards."""
    weights = str(pretrained_path("resnet8", "digits"))
    episode = EpisodeConfig(
        steps=1, batch=16, search_images=50, statistics_images=16, validation="xla"
    )
    task = NetworkTask("resnet8", "digits", weights, episode=episode)
    problem = Problem(task, budget=Budget("macs", 0.5, True))
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped

    def followed(action: np.ndarray) -> list[str]:
        with entries() as walk:
            env.step(action)
        return walk

    play(env, env.step)
    walk = play(env, followed)
    first = next(n for n, name in enumerate(walk) if name.startswith("pfrl.evaluation"))
    return walk[first : walk.index("envs.rewards") + 1]


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
