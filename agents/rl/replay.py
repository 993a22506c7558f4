"""The replay memory of the off-policy agents: whole episodes, rewards measured from a baseline."""

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


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
