"""DDPG of stable-baselines3 with the changes that AMC made to it (arXiv 1802.03494).

AMC and what is different here:

- AMC's actions lie in [0, 1] behind a sigmoid; here in [-1, 1], so
  ``a = 2·a_AMC - 1``, and a standard deviation is twice AMC's. They are kept
  there by inverting gradients: in searches of a hundred episodes the sigmoid
  saturates and the final actor plays one extreme at every layer.
- AMC's discount is 1 with the episode's reward at every transition, so that
  the value of an action counts it once for every layer still to come; a lower
  one (0.9) trusts less in values that a short search has hardly learned.
- Two updates a transition; AMC makes one, in eight times as many episodes.
- The replay memory holds the action that the budget let happen, as the paper
  says; AMC's code stores the action that was asked for.
- The baseline is the moving average of the episodes' rewards, as the paper
  says; AMC's code averages the rewards of the sampled batches, with a weight
  of 0.5. As there, it is subtracted when a batch is drawn: rewards that stay
  in the memory are all measured from the baseline of the moment.
- The warm-up is a share of the episodes; AMC's is 100 of 800.
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from scipy.special import ndtr, ndtri
from stable_baselines3 import DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecNormalize
from torch.optim import Optimizer

from agents.base import Recorder
from agents.bounded import InvertingGradients
from agents.options import DDPGOptions
from agents.sb3 import learn_and_play


def truncated_normal(
    mean: np.ndarray, sigma: float, rng: np.random.Generator, low: float = -1.0, high: float = 1.0
) -> np.ndarray:
    """Samples within [low, high] of normal distributions around ``mean`` (any shape, in there too).

    By inversion: ``mean + sigma · Phi⁻¹(u)`` with u uniform between
    ``Phi((low - mean) / sigma)`` and ``Phi((high - mean) / sigma)``.
    """
    if sigma == 0:
        return mean
    u = rng.uniform(ndtr((low - mean) / sigma), ndtr((high - mean) / sigma))
    return np.clip(mean + sigma * ndtri(u), low, high)


class BaselineReplay(ReplayBuffer):
    """Whole episodes, sampled with their rewards measured from a baseline."""

    def __init__(self, *args: Any, steps: int, share_reward: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.baseline = 0.0
        self._steps = steps
        self._share_reward = share_reward

    def finish_episode(self, reward: float) -> None:
        """Called after the last of an episode's transitions was added."""
        if self._share_reward:
            # Behind the memory's end pos is 0 again, and the negative indices are the last places.
            self.rewards[np.arange(self.pos - self._steps, self.pos)] = reward

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        samples = super().sample(batch_size, env)
        # A reward that is given once has the baseline subtracted once.
        times = 1.0 if self._share_reward else samples.dones
        return samples._replace(rewards=samples.rewards - times * self.baseline)


class AMCAgent(DDPG):
    """See the head of this file; ``warmup`` is a number of episodes."""

    replay_buffer: BaselineReplay

    def __init__(
        self, env: gymnasium.Env, recorder: Recorder, options: DDPGOptions, warmup: int, seed: int
    ):
        self._options = options
        self._recorder = recorder
        self._warmup = warmup
        self._rng = np.random.default_rng(seed)
        self._average: float | None = None
        steps = recorder.steps
        super().__init__(
            "MlpPolicy",
            env,
            learning_rate=options.critic_learning_rate,
            buffer_size=options.replay * steps,
            learning_starts=warmup * steps,
            batch_size=options.batch,
            tau=options.tau,
            gamma=options.gamma,
            train_freq=(1, "episode"),
            gradient_steps=options.updates * steps,
            replay_buffer_class=BaselineReplay,
            replay_buffer_kwargs={"steps": steps, "share_reward": options.share_reward},
            policy_kwargs={"net_arch": list(options.hidden)},
            seed=seed,
            device="cpu",
        )
        if options.bound == "inverting":
            for actor in (self.actor, self.actor_target):
                actor.mu[-1] = InvertingGradients()

    @property
    def sigma(self) -> float:
        """Standard deviation of this episode's exploration, actions in [-1, 1]."""
        explored = self._episode_num - self._warmup
        return 2 * self._options.sigma * self._options.sigma_decay**explored

    def explore(self, action: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1] around the actor's ``action``, any shape."""
        if self._options.noise == "truncated":
            return truncated_normal(action, self.sigma, self._rng)
        return np.clip(self._rng.normal(action, self.sigma), -1, 1)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.num_timesteps < learning_starts:
            self._recorder.phase = "warmup"
            action = self._rng.uniform(-1, 1, (n_envs, self._recorder.knobs))
        else:
            self._recorder.phase = "explore"
            assert self._last_obs is not None
            action = self.explore(self.predict(self._last_obs, deterministic=True)[0])
        action = action.astype(np.float32)
        return action, action

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        executed = np.stack([info["executed_action"] for info in infos])
        super()._store_transition(replay_buffer, executed, new_obs, reward, dones, infos)
        if dones[0]:
            self._finish_episode(float(reward[0]))

    def _finish_episode(self, reward: float) -> None:
        self.replay_buffer.finish_episode(reward)
        if self._options.baseline:
            decay = 0.0 if self._average is None else self._options.baseline_decay
            self._average = decay * (self._average or 0.0) + (1 - decay) * reward
            self.replay_buffer.baseline = self._average

    def _update_learning_rate(self, optimizers: list[Optimizer] | Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        update_learning_rate(self.actor.optimizer, self._options.actor_learning_rate)


def search_ddpg(
    env: Recorder, episodes: int, seed: int, options: DDPGOptions, tensorboard: Path | None
) -> None:
    """A ``Searcher``: uniform warm-up, exploration, and the deterministic actor's episode."""
    warmup = int(options.warmup * episodes)
    learn_and_play(
        lambda outside: AMCAgent(outside, env, options, warmup, seed),
        env,
        episodes,
        learn_from=episodes - 1,
        tensorboard=tensorboard,
    )
