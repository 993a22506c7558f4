"""DDPG of stable-baselines3 with the changes that AMC made to it (arXiv 1802.03494).

What all off-policy agents have of AMC, and what differs there, is in
``agents.rl.offpolicy``. Of DDPG alone: AMC keeps actions in their range with a
sigmoid, here inverting gradients do. In searches of a hundred episodes the
sigmoid saturates and the final actor plays one extreme at every layer.
"""

from functools import partial

import gymnasium
from stable_baselines3 import DDPG

from agents.base import Recorder
from agents.rl.bounded import invert_gradients
from agents.rl.numpy_updates.deterministic import WrittenOutUpdates
from agents.rl.offpolicy import OffPolicyAgent, search_off_policy
from agents.rl.options import DDPGOptions


class AMCAgent(OffPolicyAgent, WrittenOutUpdates, DDPG):
    """See the head of this file; ``warmup`` is a number of episodes."""

    def __init__(
        self, env: gymnasium.Env, recorder: Recorder, options: DDPGOptions, warmup: int, seed: int
    ):
        super().__init__(env, recorder, options, warmup, seed)
        if options.bound == "inverting":
            invert_gradients(self.actor, self.actor_target)


search_ddpg = partial(search_off_policy, AMCAgent)
"""A ``Search``: warm-up, exploration, and the deterministic actor's episode."""
