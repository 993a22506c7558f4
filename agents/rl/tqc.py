"""TQC of sb3-contrib (arXiv 2005.04269) with AMC's changes, which ``agents.rl.offpolicy`` lists.

The actor is SAC's (see ``agents.rl.sac``); the critics predict quantiles of the
return, and the largest of them are left out of the target.
"""

from functools import partial

import gymnasium
from sb3_contrib import TQC

from agents.base import Recorder
from agents.rl.offpolicy import OffPolicyAgent, search_off_policy
from agents.rl.options import TQCOptions
from agents.rl.sac import entropy_weight


class TQCAgent(OffPolicyAgent, TQC):
    """See the head of this file; ``warmup`` is a number of episodes."""

    def __init__(
        self, env: gymnasium.Env, recorder: Recorder, options: TQCOptions, warmup: int, seed: int
    ):
        super().__init__(
            env,
            recorder,
            options,
            warmup,
            seed,
            policy_kwargs={"n_critics": options.critics, "n_quantiles": options.quantiles},
            ent_coef=entropy_weight(options),
            top_quantiles_to_drop_per_net=options.drop,
        )


search_tqc = partial(search_off_policy, TQCAgent)
"""A ``Search``: warm-up, exploration, and the episode of the actor's mean actions."""
