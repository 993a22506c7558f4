"""Sensitivity and a solver: measure what each decision loses, solve for the budget, search around.

What model compression without learning does: ModelOpt and MCT measure layers one by one and solve
an integer program; SPDY (Frantar and Alistarh 2022, arXiv 2201.13096) scales the measured losses by
factors and searches for the factors whose solution is best when it is evaluated.

1. **Probes.** The network with one decision at a lower choice and all others at their highest, and
   the whole network itself. Each costs an evaluation. Between the choices that were probed losses
   are interpolated, and they never fall with a lower choice.
2. **Solution.** The combination of the smallest total loss that meets the budget, exactly.
3. **Around it.** Losses do not add up: the total is far from what was pruned one by one. So what is
   left of the episodes is spent on solutions for losses that are scaled by other factors, each
   drawn around those of the best solution so far.

Probes exceed the budget; they are in the history (phase ``probe``) and never its best.
"""

from typing import Any

import numpy as np

from agents.base import PROBE, AgentError, Recorder, Scalars
from agents.search.exact import costs_of, solve
from agents.search.options import SolverOptions
from agents.search.proposals import limited, play_vector

TRIES = 20
"""Factors that are drawn for a solution which was not evaluated yet."""


def search_solver(
    env: Recorder, episodes: int, seed: int, options: SolverOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: probes, the solution for them, and what lies around; ``tensorboard`` is not
    used.

    With too few episodes for the network itself, one probe a decision and a solution, all of them
    are solutions for losses that are in proportion to the cost which a choice saves.

    Raises:
      AgentError: if there is no budget to solve for.
    """
    if not limited(env):
        raise AgentError("the agent solver solves for a budget; give the problem one")
    rng = np.random.default_rng(seed)
    decisions = env.unwrapped.decisions  # type: ignore[attr-defined]
    every = [decision for _, decision in decisions.all()]
    costs = costs_of(decisions)
    each = int(max(episodes * options.probes, 1) - 1) // max(len(every), 1)
    if each < 1 or episodes < len(every) + 2:
        losses = [saved.max() - saved for saved in costs.single]
    else:
        losses = _probe(env, every, each)
    best, factors = -np.inf, np.ones(len(every))
    seen: set[bytes] = set()
    while len(env.history) < episodes:
        tried, choices = factors, None
        for attempt in range(TRIES):
            # The first solution is for the losses as they were measured.
            if seen or attempt:
                chosen = rng.random(len(every)) < options.share
                tried = factors * np.exp(chosen * rng.normal(0, options.sigma, len(every)))
            scaled = [f * own for f, own in zip(tried, losses, strict=True)]
            choices = solve(scaled, costs, decisions.limit)
            if choices is None or choices.tobytes() not in seen:
                break
        if choices is None:
            vector = np.zeros(len(every))  # costs that three decisions share: the centre is left
        else:
            seen.add(choices.tobytes())
            pairs = zip(every, choices, strict=True)
            vector = np.array([decisions.action_of(*pair) for pair in pairs])
        reward = play_vector(env, vector).reward
        if reward > best:
            best, factors = reward, tried


def _probe(env: Recorder, every: list[Any], each: int) -> list[np.ndarray]:
    """Losses by decision and choice, from ``each`` probes a decision and one of the network."""
    highest = [len(decision.values) - 1 for decision in every]
    base = _evaluated(env, every, highest)
    losses = []
    for place, decision in enumerate(every):
        size = len(decision.values)
        probed = np.unique(np.linspace(0, size - 1, each + 1).round().astype(int))[:-1]
        found = []
        for choice in probed:
            choices = [*highest]
            choices[place] = int(choice)
            found.append(base - _evaluated(env, every, choices))
        points, values = np.append(probed, size - 1), np.append(found, 0.0)
        # What is lost with more channels is lost with fewer.
        values = np.maximum.accumulate(values[::-1])[::-1]
        losses.append(np.interp(np.arange(size), points, values))
    return losses


def _evaluated(env: Recorder, every: list[Any], choices: list[int]) -> float:
    """The reward of a combination, whatever it costs; one of the episodes."""
    unwrapped: Any = env.unwrapped
    policy, evaluation, reward = unwrapped.evaluate(list(zip(every, choices, strict=True)))
    env.phase = PROBE
    env.record(policy, evaluation, reward)
    env.phase = "explore"
    return reward
