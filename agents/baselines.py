"""What every agent has to beat: the same action in every step, and actions drawn at random."""

from pathlib import Path

import numpy as np

from agents.base import Recorder, play


def search_uniform(
    env: Recorder, episodes: int, seed: int, options: None, tensorboard: Path | None
) -> None:
    """A ``Searcher``: one and the same action in all steps and knobs of an episode.

    The levels of the episodes go in equal steps from 1 (keep all) to -1. Above
    the level that the budget allows, the budget takes from the last layers;
    below it some of the budget stays unspent. The level between them, which a
    search of some twenty episodes comes near to, is the uniform policy.
    Neither ``seed`` nor ``tensorboard`` is used.
    """
    env.phase = "uniform"
    for level in np.linspace(1, -1, episodes, dtype=np.float32):
        action = np.full(env.knobs, level, np.float32)
        play(env, lambda observation, action=action: action)


def search_random(
    env: Recorder, episodes: int, seed: int, options: None, tensorboard: Path | None
) -> None:
    """A ``Searcher``: actions drawn uniformly from [-1, 1]; ``tensorboard`` is not used.

    Under one seed, DDPG's warm-up plays the first of these episodes.
    """
    env.phase = "random"
    rng = np.random.default_rng(seed)
    for _ in range(episodes):
        play(env, lambda observation: rng.uniform(-1, 1, env.knobs).astype(np.float32))
