"""What a budget makes of many episodes at once, without playing them."""

from typing import Any, cast

import numpy as np

from envs.decisions import Decisions
from envs.knobs import Knob


def project(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    """The actions ``[B, L, K]`` that episodes of the actions ``[B, L, K]`` execute.

    The same as ``Decisions.execute`` step by step. Channel counts under a limit on MACs,
    a polynomial in them, are decided for all episodes together.
    """
    actions = np.clip(np.asarray(actions, np.float32), -1, 1)
    kinds = {knob.kind for _, row in decisions.steps for knob in row if knob is not None}
    if decisions.metric == "macs" and kinds <= {"keep", "rank"}:
        return _together(decisions, actions)
    return np.stack([_one(decisions, episode) for episode in actions])


def settle(decisions: Decisions, executed: np.ndarray) -> np.ndarray:
    """Executed actions ``[B, L, K]`` by the middles of their choices: one policy, one array."""
    settled = np.zeros_like(executed, np.float32)
    for step, (_, row) in enumerate(decisions.steps):
        for place, knob in enumerate(row):
            if knob is not None:
                choices = decisions.choices(knob, executed[:, step, place])
                settled[:, step, place] = decisions.middles(knob)[choices]
    return settled


def _one(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    at, executed = decisions.start.copy(), []
    for step, action in enumerate(actions):
        at, taken, _ = decisions.execute(step, action, at)
        executed.append(taken)
    return np.stack(executed)


def _together(decisions: Decisions, actions: np.ndarray) -> np.ndarray:
    executed = np.zeros_like(actions)
    count = len(actions)
    counts = {name: np.full(count, size) for name, size in decisions.start.counts.items()}
    for step, (_, row) in enumerate(decisions.steps):
        for place, knob in enumerate(row):
            if knob is None:
                continue
            wanted = decisions.choices(knob, actions[:, step, place])
            taken = wanted
            if decisions.limit is not None:
                taken = _largest(decisions, knob, wanted, counts, decisions.limit)
            _set(knob, taken, counts)
            stands = decisions.middles(knob)[taken]
            executed[:, step, place] = np.where(taken == wanted, actions[:, step, place], stands)
    return executed


def _largest(
    decisions: Decisions,
    knob: Knob,
    wanted: np.ndarray,
    counts: dict[str, np.ndarray],
    limit: float,
) -> np.ndarray:
    """By bisection, of every episode: the largest choice up to ``wanted`` that meets the limit."""
    low, high, trial = np.zeros_like(wanted), wanted, dict(counts)
    middle = wanted  # which mostly fits
    while (low < high).any():
        _set(knob, middle, trial)
        fits = np.asarray(decisions.graph.macs_at(cast(Any, trial))) <= limit
        low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle - 1, low))
        middle = (low + high + 1) // 2
    return low


def _set(knob: Knob, choices: np.ndarray, counts: dict[str, np.ndarray]) -> None:
    values = np.asarray(knob.values, int)[choices]
    counts.update(zip(knob.names, values.T, strict=True))
