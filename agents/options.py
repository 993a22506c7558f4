"""What can be set of the learning agents; imports neither torch nor stable-baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.base import AgentError

MAX_WARMUP = 0.25


@dataclass(frozen=True)
class DDPGOptions:
    """DDPG with the changes of AMC (arXiv 1802.03494); see ``agents.ddpg``."""

    warmup: float = 0.25
    """Share of the episodes that are played with uniform random actions, at most 0.25."""
    share_reward: bool = True
    """Give the episode's reward to each of its transitions; off: to the last one only."""
    baseline: bool = True
    """Subtract the moving average of the episodes' rewards from the rewards in every update."""
    baseline_decay: float = 0.95
    """Weight of the past in that average, 0 to 1."""
    noise: Literal["truncated", "gaussian"] = "truncated"
    """Exploration around the actor's action: a normal distribution that is truncated to the
    range of actions, or a plain one whose samples are clipped to it."""
    sigma: float = 0.5
    """Its standard deviation in the first episode after the warm-up, in AMC's units: actions in
    [0, 1]. Actions here lie in [-1, 1], so twice as much is applied."""
    sigma_decay: float = 0.95
    """The standard deviation is multiplied by this after every later episode."""
    actor_learning_rate: float = 1e-4
    """Adam's learning rate of the actor."""
    critic_learning_rate: float = 1e-3
    """Adam's learning rate of the critic."""
    hidden: tuple[int, ...] = (300, 300)
    """Units of the hidden layers of actor and critic."""
    tau: float = 0.01
    """Share by which the target networks move to the networks in an update."""
    gamma: float = 0.9
    """Discount factor; with ``share_reward``, 0 is regression on the episode's reward."""
    bound: Literal["inverting", "tanh"] = "inverting"
    """How actions stay in their range: by inverting gradients (arXiv 1511.04143) or by a tanh,
    AMC's sigmoid, which saturates in short searches."""
    batch: int = 64
    """Transitions an update."""
    replay: int = 100
    """Episodes that the replay memory holds."""
    updates: int = 2
    """Updates per transition, all made when an episode ends."""

    def __post_init__(self) -> None:
        _check_share("warmup", self.warmup, MAX_WARMUP)
        for name in ("baseline_decay", "sigma_decay", "tau", "gamma"):
            _check_share(name, getattr(self, name), 1.0)
        if self.bound not in ("inverting", "tanh"):
            raise AgentError(f"bound is {self.bound!r}; choose 'inverting' or 'tanh'")
        if self.noise not in ("truncated", "gaussian"):
            raise AgentError(f"noise is {self.noise!r}; choose 'truncated' or 'gaussian'")
        _check_positive(self, "actor_learning_rate", "critic_learning_rate")
        _check_positive(self, "batch", "replay", "updates")
        if self.sigma < 0:
            raise AgentError(f"sigma is {self.sigma}; choose 0 (no exploration) or more")


@dataclass(frozen=True)
class PPOOptions:
    """PPO (arXiv 1707.06347) for searches of some hundred episodes."""

    updates: int = 12
    """Updates that a search makes at the least, if it has as many episodes: a rollout is
    ``(episodes - 1) // updates`` episodes long, one at the least."""
    learning_rate: float = 3e-3
    """Adam's learning rate of policy and value function."""
    epochs: int = 10
    """Passes over a rollout in an update."""
    minibatches: int = 4
    """Parts that a rollout is cut into for a gradient step; reduced to a divisor of its length."""
    gamma: float = 1.0
    """Discount factor."""
    gae_lambda: float = 1.0
    """Of the generalized advantage estimator; 1 is the reward minus the value."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    log_std: float = 0.0
    """Logarithm of the first standard deviation of the actions, which lie in [-1, 1]."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of the hidden layers of policy and value function."""

    def __post_init__(self) -> None:
        _check_positive(self, "updates", "learning_rate", "epochs", "minibatches")
        for name in ("gamma", "gae_lambda"):
            _check_share(name, getattr(self, name), 1.0)


def _check_share(name: str, value: float, limit: float) -> None:
    if not 0 <= value <= limit:
        raise AgentError(f"{name} is {value}; choose a value from 0 to {limit:g}")


def _check_positive(options: DDPGOptions | PPOOptions, *names: str) -> None:
    for name in names:
        if not getattr(options, name) > 0:
            raise AgentError(f"{name} is {getattr(options, name)}; choose a value above 0")
