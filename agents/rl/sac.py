"""SAC of stable-baselines3 (arXiv 1801.01290, 1812.05905) with AMC's changes.

``agents.rl.offpolicy`` lists those. The actor draws its actions from a Gaussian
behind a tanh, so inverting gradients have no place here; it explores by its
own draws (``noise="own"``), and its entropy takes the place of a decaying
deviation. The last episode plays the Gaussian's mean.
"""

from functools import partial

import gymnasium

from agents.base import Recorder
from agents.rl.numpy_updates.stochastic import WrittenOutSAC
from agents.rl.offpolicy import OffPolicyAgent, search_off_policy
from agents.rl.options import EntropyOptions, SACOptions


def entropy_weight(options: EntropyOptions) -> str | float:
    """stable-baselines3's ``ent_coef``: a number, or ``auto_`` and the number that it starts at."""
    return f"auto_{options.entropy}" if options.learn_entropy else options.entropy


class SACAgent(OffPolicyAgent, WrittenOutSAC):
    """See the head of this file; ``warmup`` is a number of episodes."""

    def __init__(
        self, env: gymnasium.Env, recorder: Recorder, options: SACOptions, warmup: int, seed: int
    ):
        super().__init__(env, recorder, options, warmup, seed, ent_coef=entropy_weight(options))


search_sac = partial(search_off_policy, SACAgent)
"""A ``Search``: warm-up, exploration, and the episode of the actor's mean actions."""
