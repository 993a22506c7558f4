"""A batched environment as stable-baselines3's: PPO collects E episodes and waits for one batch."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.vec_env import VecEnv

from envs.vector import CompressionVectorEnv


class SB3VecEnv(VecEnv):
    """``CompressionVectorEnv`` by the rules of ``stable_baselines3.common.vec_env.VecEnv``.

    The step that ends the episodes begins the next ones too: its observations are the first
    of those, and ``infos[e]["terminal_observation"]`` is the last of the one that ended. Its
    infos are a list with a dict for every policy, with what the single environment's has.

    Args:
      env: with or without something around it; it is closed with this one.
    """

    def __init__(self, env: CompressionVectorEnv | VectorWrapper):
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros((0,), np.float32)

    def reset(self) -> np.ndarray:
        observations, _ = self.env.reset()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, _, batched = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [
            {key: values[n] for key, values in batched.items() if not key.startswith("_")}
            | {"TimeLimit.truncated": False}
            for n in range(self.num_envs)
        ]
        if terminated.all():
            for info, observation in zip(infos, observations, strict=True):
                info["terminal_observation"] = observation
            observations = self.reset()
        return observations, rewards.astype(np.float32), terminated, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"the policies of a batch have no '{attr_name}' of their own to set")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        raise AttributeError(f"the policies of a batch have no method '{method_name}' of their own")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs
