"""How a stable-baselines3 agent is run: its logger, generators, threads and last episode."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger

from agents.base import AgentError, Recorder, Scalars, play
from agents.rl.screening.candidates import dry_run_of
from agents.rl.trained import trained


class Generators:
    """The process-wide generators (random, numpy, torch) in two copies: ours and everybody else's.

    stable-baselines3 seeds and draws from the process-wide generators. It is
    given its own states of them, so a search leaves the caller's untouched,
    and draws in an evaluation or in ``on_episode`` do not change the search.
    """

    def __init__(self) -> None:
        self._waiting = self._states()

    @staticmethod
    def _states() -> tuple[Any, Any, torch.Tensor]:
        return random.getstate(), np.random.get_state(), torch.get_rng_state()

    def _exchange(self) -> None:
        python, numpy, pytorch = self._waiting
        self._waiting = self._states()
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """Inside the block the other copy is the process-wide one."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()


class Outside(gymnasium.Wrapper):
    """Lets the environment run on everybody else's generators.

    An environment that can play dry draws nothing before the last step, which
    evaluates; an exchange at every step would be a tenth of what an agent costs.
    """

    def __init__(self, env: Recorder, generators: Generators):
        super().__init__(env)
        self._generators = generators
        self._steps = env.steps
        self._dry = dry_run_of(env) is not None
        self._step = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self._step = 0
        with self._generators.exchanged():
            return self.env.reset(**kwargs)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._step += 1
        if self._dry and self._step < self._steps:
            return self.env.step(action)
        with self._generators.exchanged():
            return self.env.step(action)


class Portable(gymnasium.ObservationWrapper):
    """Shows of an observation what is as long for every network.

    Raises:
      AgentError: if the environment does not say how much that is.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._fixed: int | None = getattr(env.unwrapped, "fixed", None)
        if self._fixed is None:
            raise AgentError("only environments of pfrl show what a portable agent sees")
        self.observation_space = gymnasium.spaces.Box(-1, 1, (self._fixed,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[..., : self._fixed]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the order of sums, and so the result, is the same in every run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class EpisodeWriter(KVWriter):
    """stable-baselines3's values at the index of the episode that they were written after.

    Args:
      scalars: where they go.
      steps: L, steps of an episode, in which stable-baselines3 counts.
    """

    def __init__(self, scalars: Scalars, steps: int):
        self._scalars, self._steps = scalars, steps

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        for tag, value in sorted(key_values.items()):
            if isinstance(value, int | float | np.number) and "tensorboard" not in (
                key_excluded[tag] or ()
            ):
                self._scalars.add_scalar(tag, float(value), step // self._steps - 1)

    def close(self) -> None:
        """Nothing: who made the scalars closes them."""


@contextmanager
def sb3_logger(tensorboard: Scalars | None, steps: int) -> Iterator[Logger]:
    """A logger that writes into ``tensorboard``, or nothing at all."""
    formats = [] if tensorboard is None else [EpisodeWriter(tensorboard, steps)]
    # Handed to the model in place of its own, which would make a folder in the temporary directory.
    logger = Logger(folder=None, output_formats=list(formats))
    try:
        yield logger
    finally:
        logger.close()


Batch = Callable[[Recorder, Generators], AbstractContextManager[Any]]
"""Makes what is learned in of a recorder and our generators."""


def learn_and_play(
    make_model: Callable[[Any], BaseAlgorithm],
    env: Recorder,
    episodes: int,
    learn_from: int,
    tensorboard: Scalars | None,
    batch: Batch | None = None,
    portable: bool = False,
) -> None:
    """Play ``episodes`` episodes, the last of them with the deterministic actor.

    Args:
      make_model: builds the agent on the environment that it is given.
      learn_from: number of episodes that the agent learns from, at most
        ``episodes - 1``; what is left up to the last one is played by the
        trained agent with its exploration.
      tensorboard: where stable-baselines3's values go, under its tags; the step is the episode.
      batch: several episodes at once, if it is to learn from such.
      portable: whether the agent sees only what is as long for every network.
    """
    generators = Generators()
    with one_thread(), sb3_logger(tensorboard, env.steps) as logger, generators.exchanged():
        outside: gymnasium.Env = Outside(env, generators)
        if portable:
            outside = Portable(outside)
        learning = nullcontext(outside) if batch is None else batch(env, generators)
        with learning as place:
            model = make_model(place)
            model.set_logger(logger)
            model.learn(total_timesteps=learn_from * env.steps, log_interval=1)
        # The losses of the last update: an algorithm writes them with the next rollout only.
        logger.dump(model.num_timesteps + env.steps)
        while len(env.history) < episodes - 1:
            play(outside, lambda observation: model.predict(observation)[0])
        env.phase = "final"
        play(outside, lambda observation: model.predict(observation, deterministic=True)[0])
        env.trained = trained(model, portable)
