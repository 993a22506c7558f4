"""What all agents share: their registry, the record of an episode, the result of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium
import numpy as np

from pfrl.bounds import check
from pfrl.registry import Registry

if TYPE_CHECKING:  # jax is not needed to read a history
    from pfrl.compression.policy import Policy
    from pfrl.evaluation.config import Evaluation


PROBE = "probe"
"""Phase of an evaluation that measures one decision, whatever the budget; never the best."""


class AgentError(ValueError):
    """An agent, an option or a number of episodes that a search cannot work with."""


@dataclass(frozen=True)
class Options:
    """What can be set of an agent: fields with bounds, checked when it is made."""

    def __post_init__(self) -> None:
        check(self, AgentError)


@dataclass(frozen=True)
class Episode:
    """One policy that was decided layer by layer and evaluated once."""

    index: int
    """Place in the search, from 0."""
    phase: str
    """Who chose: ``uniform``, ``random``, ``warmup``, ``explore``, ``probe`` (a measurement that no
    budget holds for) or ``final`` (no exploration)."""
    policy: Policy
    """What was executed, after the budget."""
    reward: float
    """The episode's reward, in the units of the problem's reward function."""
    evaluation: Evaluation
    """Accuracy on the search split, costs, seconds, whether training diverged."""
    limit: float | None = None
    """That the episode drew, a share of the base; None where one limit holds for all."""

    def to_json(self) -> dict[str, Any]:
        """Plain data: one line of ``history.jsonl``."""
        return {
            "episode": self.index,
            "phase": self.phase,
            "reward": self.reward,
            "accuracy": self.evaluation.accuracy,
            "costs": dict(self.evaluation.costs),
            "seconds": self.evaluation.seconds,
            "images": self.evaluation.images,
            "diverged": self.evaluation.diverged,
            # Of a validation that was stopped early the accuracy is an estimate.
            **({} if self.evaluation.exact else {"exact": False}),
            **({} if self.limit is None else {"limit": self.limit}),
            "policy": self.policy.to_json(),
        }


Plan = Callable[[Any, float], "Policy"]
"""Of a ``CompressionEnv`` and a limit, as its ``decide`` takes it, a policy: no evaluation."""


@dataclass(frozen=True)
class SearchResult:
    """What a search yielded."""

    best: Episode
    """The highest reward; see ``best_of``."""
    final: Episode
    """What the trained actor plays without exploration; for agents without an actor, ``best``."""
    history: list[Episode]
    """All episodes, in the order they were played."""
    trained: Any = None
    """An ``agents.rl.trained.Trained`` of an agent that learned, else None."""
    plan: Plan | None = None
    """What a search for every limit holds to be best under one; None if it has no opinion."""


def best_of(history: list[Episode]) -> Episode:
    """The episode with the highest reward, the earliest of equals.

    A diverged episode is the best only if all are; one that was judged on some of the images, an
    estimate, only if no other was judged on all; a probe only if there is nothing else.
    """

    def merit(episode: Episode) -> tuple[bool, bool, bool, float]:
        found = episode.evaluation
        return episode.phase != PROBE, not found.diverged, found.exact, episode.reward

    # max() keeps the first of equal items.
    return max(history, key=merit)


class Recorder(gymnasium.Wrapper):
    """Makes an ``Episode`` of every episode that ends and tells ``on_episode`` about it.

    It sits below whatever a library wraps around the environment, so rewards
    are recorded as they are (stable-baselines3 rounds them to float32).

    Args:
      env: an environment whose last step's ``info`` holds ``policy`` and ``evaluation``.
      on_episode: called once after every episode; what it raises ends the search.
    """

    def __init__(self, env: gymnasium.Env, on_episode: Callable[[Episode], object] | None = None):
        super().__init__(env)
        self.steps: int = env.get_wrapper_attr("steps")
        """L, steps of an episode."""
        self.knobs: int = env.get_wrapper_attr("action_space").shape[0]
        """K, actions of a step."""
        everywhere = np.ones((self.steps, self.knobs), bool)
        self.live: np.ndarray = getattr(env.unwrapped, "live", everywhere)
        """bool ``[L, K]``: which actions decide something."""
        self.phase = "explore"
        """The phase of the episode that is being played; set by the agent that plays it."""
        self.history: list[Episode] = []
        self.trained: Any = None
        """What an agent that learns has become; set by it."""
        self.plan: Plan | None = None
        """Of a search for every limit; set by the agent."""
        self._on_episode = on_episode

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            self.record(info["policy"], info["evaluation"], float(reward), info.get("limit"))
        return observation, reward, terminated, truncated, info

    def record(
        self, policy: Policy, evaluation: Evaluation, reward: float, limit: float | None = None
    ) -> None:
        """An episode that ended, here or in a batch."""
        episode = Episode(len(self.history), self.phase, policy, reward, evaluation, limit)
        self.history.append(episode)
        if self._on_episode is not None:
            self._on_episode(episode)


def play(env: gymnasium.Env, act: Callable[[np.ndarray], np.ndarray]) -> None:
    """One whole episode; ``act`` maps an observation to an action ``[K]`` in [-1, 1]."""
    observation, _ = env.reset()
    terminated = False
    while not terminated:
        observation, _, terminated, _, _ = env.step(act(observation))


class Scalars(Protocol):
    """Where an agent that learns writes its losses, such as TensorBoard's ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> object:
        """A value under ``tag`` at an episode's index."""
        ...


Search = Callable[[Recorder, int, int, Any, Scalars | None], None]
"""``search(env, episodes, seed, options, tensorboard)`` plays exactly ``episodes`` episodes.

It sets ``env.phase`` before an episode ends. The same seed plays the same
episodes, bit for bit, on one machine.
"""


@dataclass(frozen=True)
class Agent:
    """Who decides, as ``pfrl.register("agent", name, ...)`` takes it; a bare ``Search`` will do."""

    place: Search | str
    """The function, or where it is ('module:function'), so that what it needs is imported late."""
    options: type | None = None
    """The type of its options; None if it has none."""
    learns: bool = False
    """Whether it trains an actor, which plays the last episode without exploration."""
    every_limit: bool = False
    """Whether it may play episodes with limits of their own (``envs.Problem.limits``), so that
    one search serves all."""
    rule: str = ""
    """How it decides all layers at once, if it does; a first episode is all that it has to say."""

    @property
    def search(self) -> Search:
        """The function, imported if it has to be."""
        if not isinstance(self.place, str):
            return self.place
        module, name = self.place.split(":")
        return getattr(import_module(module), name)


AGENTS: Registry[Agent] = Registry(
    "agent",
    ("agents.rl.options", "agents.search.options"),
    read=lambda item: item if isinstance(item, Agent) else Agent(item),
)
"""The agents by name."""
