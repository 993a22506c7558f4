"""The agents that learn and what can be set of them; imports neither torch nor
stable-baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from agents.base import Agent, AgentError, Options
from pfrl.bounds import Bounds, Count, NotNegative, Positive, Share, Whole
from pfrl.registry import register

FirstPolicy = Literal["centre", "random"]


@dataclass(frozen=True)
class OffPolicyOptions(Options):
    """What AMC (arXiv 1802.03494) changed, for every off-policy agent; see
    ``agents.rl.offpolicy``."""

    warmup: Annotated[float, Bounds(0, 0.25)] = 0.15
    """Share of the episodes that are played with uniform random actions, at most 0.25."""
    start: FirstPolicy = "centre"
    """What the first episode of the warm-up plays: at every step action 0, which stands for the
    uniform policy under the budget (see ``envs.decisions``), or random actions like the others."""
    share_reward: bool = True
    """Give the episode's reward to each of its transitions; off: to the last one only."""
    baseline: bool = True
    """Subtract the moving average of the episodes' rewards from the rewards in every update."""
    baseline_decay: Share = 0.95
    """Weight of the past in that average, 0 to 1."""
    noise: Literal["truncated", "gaussian", "own"] = "truncated"
    """Exploration around the actor's action: a normal distribution that is truncated to the
    range of actions, a plain one whose samples are clipped to it, or, where the actor draws
    its actions anyway, the actor's own."""
    sigma: NotNegative = 0.5
    """Its standard deviation in the first episode after the warm-up, in AMC's units: actions in
    [0, 1]. Actions here lie in [-1, 1], so twice as much is applied."""
    sigma_decay: Share = 0.95
    """The standard deviation is multiplied by this after every later episode."""
    actor_learning_rate: Positive = 1e-3
    """Adam's learning rate of the actor."""
    critic_learning_rate: Positive = 1e-3
    """Adam's learning rate of the critic."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of the hidden layers of actor and critic."""
    tau: Share = 0.01
    """Share by which the target networks move to the networks in an update."""
    gamma: Share = 0.9
    """Discount factor; with ``share_reward``, 0 is regression on the episode's reward."""
    batch: Count = 64
    """Transitions an update."""
    replay: Count = 100
    """Episodes that the replay memory holds."""
    updates: Count = 1
    """Updates per transition, all made when an episode ends."""
    screen: Count = 64
    """Candidates of an exploration episode, of which a model of the reward that is fitted to the
    episodes so far chooses one; with 1, or in an environment that cannot tell what an episode
    would execute, there is no model. See ``agents.rl.screening``."""
    elite: Share = 0.5
    """Share of the candidates that are drawn around the best episodes so far, not the actor."""
    kappa: float = 0.5
    """Standard deviations that the model adds to a candidate's mean reward, for its doubt."""
    portable: bool = False
    """See of an observation only what is as long for every network, so that the trained agent can
    be carried over to one with another number of layers."""
    carried: str | None = None
    """File of a trained agent (``agents.rl.trained``) to start from; its actor's episode takes the
    place of the warm-up."""


@dataclass(frozen=True)
class DeterministicOptions(OffPolicyOptions):
    """Of the agents whose actor gives one action for an observation."""

    noise: Literal["truncated", "gaussian"] = "truncated"
    """Exploration around the actor's action: a normal distribution that is truncated to the
    range of actions, or a plain one whose samples are clipped to it."""
    bound: Literal["inverting", "tanh"] = "inverting"
    """How actions stay in their range: by inverting gradients (arXiv 1511.04143) or by a tanh,
    AMC's sigmoid, which saturates in short searches."""


@dataclass(frozen=True)
class DDPGOptions(DeterministicOptions):
    """DDPG with the changes of AMC (arXiv 1802.03494); see ``agents.rl.ddpg``."""


@dataclass(frozen=True)
class TD3Options(DeterministicOptions):
    """TD3 (arXiv 1802.09477); see ``agents.rl.td3``."""

    policy_delay: Count = 2
    """Updates of the critics for one of the actor and the target networks."""
    target_noise: Positive = 0.2
    """Standard deviation of the noise on the target actor's actions, which lie in [-1, 1]."""
    target_noise_clip: Positive = 0.5
    """Largest absolute value of that noise."""


@dataclass(frozen=True)
class EntropyOptions(OffPolicyOptions):
    """Of the agents that maximize entropy too (arXiv 1801.01290, 1812.05905)."""

    noise: Literal["own", "truncated", "gaussian"] = "own"
    """Exploration: the actor's own draws, or, around its mean action, a normal distribution that
    is truncated to the range of actions or a plain one whose samples are clipped to it."""
    critic_learning_rate: Positive = 1e-3
    """Adam's learning rate of the critics and of the entropy's weight."""
    entropy: Positive = 0.01
    """Weight of the entropy, for rewards between 0 and 1; the first one if it is learned."""
    learn_entropy: bool = False
    """Learn the weight, so that the entropy comes to -1 per action."""


@dataclass(frozen=True)
class SACOptions(EntropyOptions):
    """SAC (arXiv 1801.01290) with a learned entropy weight (1812.05905); see ``agents.rl.sac``."""


@dataclass(frozen=True)
class TQCOptions(EntropyOptions):
    """TQC (arXiv 2005.04269); see ``agents.rl.tqc``."""

    critics: Count = 2
    """Critics, each of which predicts the quantiles of the return."""
    quantiles: Count = 25
    """Quantiles of a critic."""
    drop: Whole = 2
    """Largest quantiles of each critic that are left out of the target."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drop >= self.quantiles:
            raise AgentError(f"drop is below the {self.quantiles} quantiles, got {self.drop}")


@dataclass(frozen=True)
class PPOOptions(Options):
    """PPO (arXiv 1707.06347) for searches of some hundred episodes."""

    start: FirstPolicy = "centre"
    """What the first episode plays: at every step action 0, which stands for the uniform policy
    under the budget (see ``envs.decisions``), and which nothing is learned from; or draws of the
    policy like all others."""
    updates: Count = 12
    """Updates that a search makes at the least, if it has as many episodes: a rollout is
    ``(episodes - 1) // updates`` episodes long, one at the least."""
    learning_rate: Positive = 3e-3
    """Adam's learning rate of policy and value function."""
    epochs: Count = 10
    """Passes over a rollout in an update."""
    minibatches: Count = 4
    """Parts that a rollout is cut into for a gradient step; reduced to a divisor of its length."""
    parallel: Count = 1
    """Episodes that are played side by side and evaluated together (``envs.vector``); a rollout
    is a multiple of it. What does not fill a rollout is played one by one."""
    gamma: Share = 1.0
    """Discount factor."""
    gae_lambda: Share = 1.0
    """Of the generalized advantage estimator; 1 is the reward minus the value."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    log_std: float = 0.0
    """Logarithm of the first standard deviation of the actions, which lie in [-1, 1]."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of the hidden layers of policy and value function."""


for _name, _options in {
    "ddpg": DDPGOptions,
    "td3": TD3Options,
    "sac": SACOptions,
    "tqc": TQCOptions,
    "ppo": PPOOptions,
}.items():
    _place = f"agents.rl.{_name}:search_{_name}"
    register("agent", _name, Agent(_place, _options, learns=True, every_limit=True))
