"""Episodes that an agent plays side by side: decided together, evaluated together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.vec_env import VecEnv

from agents.base import AgentError, Recorder
from agents.rl.sb3 import Generators
from envs.sb3_vec import SB3VecEnv
from envs.vector import CompressionVectorEnv


class BatchRecorder(VectorWrapper):
    """Tells a recorder of the episodes of a batch, in order, and steps on everybody else's
    generators, as ``agents.rl.sb3.Outside`` does."""

    def __init__(self, env: CompressionVectorEnv, recorder: Recorder, generators: Generators):
        super().__init__(env)
        self._recorder, self._generators = recorder, generators

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        with self._generators.exchanged():
            return self.env.reset(**options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        with self._generators.exchanged():
            result = self.env.step(actions)
            _, rewards, terminated, _, infos = result
            for number in np.flatnonzero(terminated):
                policy, evaluation = infos["policy"][number], infos["evaluation"][number]
                self._recorder.record(policy, evaluation, float(rewards[number]))
        return result


@contextmanager
def side_by_side(recorder: Recorder, generators: Generators, count: int) -> Iterator[VecEnv]:
    """``count`` episodes of the recorder's problem; see ``envs.vector.CompressionVectorEnv``.

    Raises:
      AgentError: if the recorder's environment is not made of a problem.
    """
    problem = getattr(recorder.unwrapped, "problem", None)
    if problem is None:
        raise AgentError("only environments of pfrl play episodes side by side; take parallel=1")
    env = CompressionVectorEnv(problem, count)
    try:
        yield SB3VecEnv(BatchRecorder(env, recorder, generators))
    finally:
        env.close()
