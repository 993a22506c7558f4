"""Actions drawn at random: what every agent has to beat."""

import numpy as np

from agents.base import Recorder, Scalars, play


def search_random(
    env: Recorder, episodes: int, seed: int, options: None, tensorboard: Scalars | None
) -> None:
    """A ``Search``: actions drawn uniformly from [-1, 1]; ``tensorboard`` is not used.

    Under one seed, DDPG's warm-up plays the first of these episodes.
    """
    env.phase = "random"
    rng = np.random.default_rng(seed)
    for _ in range(episodes):
        play(env, lambda observation: rng.uniform(-1, 1, env.knobs).astype(np.float32))
