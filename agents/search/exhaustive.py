"""Every combination of choices, for spaces so small that the optimum can be known."""

import itertools
import math

import numpy as np

from agents.base import AgentError, Recorder, Scalars
from agents.search.proposals import play_vector


def search_exhaustive(
    env: Recorder, episodes: int, seed: int, options: None, tensorboard: Scalars | None
) -> None:
    """A ``Search``: all combinations in order, the last decision changing fastest.

    From the lowest choices to the highest; those that the budget does not allow are played as
    it projects them. ``seed`` and ``tensorboard`` are not used.

    Raises:
      AgentError: if ``episodes`` is not the number of combinations, or the environment has no
        choices to combine.
    """
    decisions = getattr(env.unwrapped, "decisions", None)
    if decisions is None:
        raise AgentError(
            "exhaustive search needs an environment with decisions, such as pfrl/Compression-v0"
        )
    choices = [
        [decisions.action_of(decision, choice) for choice in range(len(decision.values))]
        for _, decision in decisions.all()
    ]
    count = math.prod(map(len, choices))
    if count != episodes:
        raise AgentError(
            f"exhaustive search plays each of the {count} combinations of choices once, so it"
            f" needs exactly {count} episodes, got {episodes}"
        )
    for actions in itertools.product(*choices):
        play_vector(env, np.array(actions))
