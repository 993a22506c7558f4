"""Greedy moves of one decision at a time, after NetAdapt (Yang et al. 2018, arXiv 1804.03230).

NetAdapt lowers one layer at a time until the budget is met, tries all layers in
a round and keeps the best try. What differs:

- The first policy meets the budget already, and a move stays at it: one
  decision is lowered and the others rise together by as much as the budget
  then allows, or the one is raised and the others fall.
- A round may be shorter than all moves; the next one goes on with those that
  were not tried yet, until they all were.
- When all were tried in vain, moves become half as long; when they are too
  short, the search starts again from random actions.
- There is no fine-tuning between the rounds.
"""

import numpy as np

from agents.base import Recorder, Scalars
from agents.search.options import GreedyOptions
from agents.search.proposals import Played, dimensions, fits, limited, play_vector
from pfrl.cost import largest_that_fits

PARTS = 256
"""Of the interval in which the others' move lies."""


def search_greedy(
    env: Recorder, episodes: int, seed: int, options: GreedyOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: climbs, each try one episode, as often as the episodes allow.

    ``seed`` orders the moves and draws the random starts; ``tensorboard`` is not used.
    """
    rng = np.random.default_rng(seed)
    while len(env.history) < episodes:
        centre = options.start == "centre" and not env.history
        size = dimensions(env)
        start = play_vector(env, np.zeros(size) if centre else rng.uniform(-1, 1, size), "warmup")
        _climb(env, start, episodes, options, rng)


def _climb(
    env: Recorder, parent: Played, episodes: int, options: GreedyOptions, rng: np.random.Generator
) -> None:
    """Rounds from ``parent`` on, until moves are too short or all episodes are played."""
    moves = [(place, sign) for place in range(parent.executed.size) for sign in (-1, 1)]
    step, untried, gained = options.step, [], False
    while step >= options.shortest and len(env.history) < episodes:
        if not untried:
            untried, gained = list(rng.permutation(moves)), False
        tries: list[Played] = []
        for place, sign in untried[: min(options.tries, episodes - len(env.history))]:
            tries.append(play_vector(env, moved(env, parent.executed, place, sign * step)))
        untried = untried[len(tries) :]
        best = max(tries, key=lambda played: played.reward, default=parent)
        if best.reward > parent.reward:
            parent, gained = best, True
        if not untried and not gained:
            step /= 2


def moved(env: Recorder, vector: np.ndarray, place: int, by: float) -> np.ndarray:
    """``vector`` ``[D]`` with one action moved and, under a budget, the others against it.

    They move by the same amount, at most ``|by|``: the largest rise, or the smallest fall,
    with which the budget clips nothing.
    """

    def shifted(others: float) -> np.ndarray:
        new = vector + others
        new[place] = vector[place] + by
        return np.clip(new, -1, 1)

    if not limited(env):
        return shifted(0.0)
    lowest = min(0.0, -by)
    part = largest_that_fits(
        range(PARTS + 1),
        lambda part: fits(env, shifted(lowest + abs(by) * part / PARTS)),
        monotone=True,
    )
    return shifted(lowest + abs(by) * part / PARTS)
