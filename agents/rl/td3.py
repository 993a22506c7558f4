"""TD3 of stable-baselines3 (arXiv 1802.09477) with AMC's changes, which ``agents.rl.offpolicy``
lists.

TD3 adds to DDPG a second critic, of which the lower value is the target, noise
on the target's actions, and fewer updates of the actor than of the critics.
"""

from functools import partial

import gymnasium

from agents.base import Recorder
from agents.rl.bounded import invert_gradients
from agents.rl.numpy_updates.deterministic import WrittenOutUpdates
from agents.rl.offpolicy import OffPolicyAgent, search_off_policy
from agents.rl.options import TD3Options


class TD3Agent(OffPolicyAgent, WrittenOutUpdates):
    """See the head of this file; ``warmup`` is a number of episodes."""

    def __init__(
        self, env: gymnasium.Env, recorder: Recorder, options: TD3Options, warmup: int, seed: int
    ):
        super().__init__(
            env,
            recorder,
            options,
            warmup,
            seed,
            policy_delay=options.policy_delay,
            target_policy_noise=options.target_noise,
            target_noise_clip=options.target_noise_clip,
        )
        if options.bound == "inverting":
            invert_gradients(self.actor, self.actor_target)


search_td3 = partial(search_off_policy, TD3Agent)
"""A ``Search``: warm-up, exploration, and the deterministic actor's episode."""
