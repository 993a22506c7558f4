"""What a budget makes of many episodes at once, without playing them."""

from typing import Any, cast

import numpy as np

from envs.choices import Decision
from envs.decisions import Decisions
from envs.knobs import KNOBS
from pfrl.cost import largest_that_fit


def project(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    """The actions ``[B, L, K]`` that episodes of the actions ``[B, L, K]`` execute.

    The same as ``Decisions.execute`` step by step. Channel counts under a limit on MACs,
    a polynomial in them, are decided for all episodes together.
    """
    actions = np.clip(np.asarray(actions, np.float32), -1, 1)
    decided = {KNOBS[decision.knob].decides for _, decision in decisions.all()}
    if decisions.metric == "macs" and decided <= {"counts"}:
        return _together(decisions, actions)
    return np.stack([_one(decisions, episode) for episode in actions])


def canonicalize(decisions: Decisions, executed: np.ndarray) -> np.ndarray:
    """Executed actions ``[B, L, K]`` by the middles of their choices: one policy, one array."""
    canonical = np.zeros_like(executed, np.float32)
    for (step, place), decision in decisions.all():
        choices = decisions.choices(decision, executed[:, step, place])
        canonical[:, step, place] = decisions.middles(decision)[choices]
    return canonical


def _one(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    at, executed = decisions.start.copy(), []
    for step, action in enumerate(actions):
        at, taken, _ = decisions.execute(step, action, at)
        executed.append(taken)
    return np.stack(executed)


def _together(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    executed = np.zeros_like(actions)
    count, limit = len(actions), decisions.limit if decisions.clips else None
    counts = {name: np.full(count, size) for name, size in decisions.start.counts.items()}
    for (step, place), decision in decisions.all():
        wanted = taken = decisions.choices(decision, actions[:, step, place])
        if limit is not None:
            taken = _largest(decisions, decision, wanted, counts, limit)
        _set(decision, taken, counts)
        stands = decisions.middles(decision)[taken]
        executed[:, step, place] = np.where(taken == wanted, actions[:, step, place], stands)
    return executed


def _largest(
    decisions: Decisions,
    decision: Decision,
    wanted: np.ndarray,
    counts: dict[str, np.ndarray],
    limit: float,
) -> np.ndarray:
    trial = dict(counts)

    def fits(choices: np.ndarray) -> np.ndarray:
        _set(decision, choices, trial)
        return np.asarray(decisions.graph.macs_at(cast(Any, trial))) <= limit

    return largest_that_fit(wanted, fits)


def _set(decision: Decision, choices: np.ndarray, counts: dict[str, np.ndarray]) -> None:
    values = np.asarray(decision.values, int)[choices]
    counts.update(zip(decision.names, values.T, strict=True))
