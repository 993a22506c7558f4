"""The protocol of channel criteria: which channels of every group stay."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pfrl.methods.base import Statistics
from pfrl.registry import Registry

Kept = dict[str, np.ndarray]
"""By group, the indices of the channels that stay, ascending."""
Select = Callable[[Mapping[str, int]], Kept]
"""``channels of every group -> which``."""
Parts = Mapping[str, list[np.ndarray]]
"""For every group what each of its arrays adds to the scores, ``[channels]`` each."""


class Criterion(NamedTuple):
    """How channels are chosen.

    Attributes:
      prepare: called once for a network; what it returns is called for every policy, and
        compiles nothing from the second one on.
      needs: names in ``pfrl.methods.base.STATISTICS``.
    """

    prepare: Callable[[Statistics], Select]
    needs: frozenset[str] = frozenset()


CRITERIA: Registry[Criterion] = Registry("criterion", rooms=("pfrl.methods.channels",))


def scoring(score: Callable[[Statistics], Parts], *needs: str) -> Criterion:
    """The criterion by which the channels with the highest scores stay.

    Args:
      score: gives what every array of a group says of its channels; see ``channel_scores``.
      needs: as of ``Criterion``.
    """

    def prepare(statistics: Statistics) -> Select:
        scores = channel_scores(score, statistics)
        return lambda counts: choose(scores, counts)

    return Criterion(prepare, frozenset(needs))


def channel_scores(
    score: Callable[[Statistics], Parts], statistics: Statistics
) -> dict[str, np.ndarray]:
    """A score ``[channels]`` for every group.

    A channel's score is the sum of what all arrays of its group say of it: of all layers on a
    residual stream, say, and a head's of all channels within the head. If the recipe
    normalises, what every array adds is divided by its mean over the channels, so that large
    kernels do not drown small ones.
    """
    parts = score(statistics)
    return {
        name: total(parts[name], group.size, statistics.recipe.normalise)
        for name, group in statistics.graph.groups.items()
    }


def total(parts: list[np.ndarray], size: int, normalise: bool = False) -> np.ndarray:
    """What all arrays of a group say together; see ``channel_scores``."""
    sums = np.zeros(size)
    for part in parts:
        mean = part.mean() if normalise else 1.0
        sums += part / mean if mean else part
    return sums


def choose(scores: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> Kept:
    """Indices of the ``counts[group]`` channels with the highest scores, in ascending order.

    Of equal scores the lower index stays.
    """
    return {
        name: np.sort(np.argsort(-score, kind="stable")[: counts[name]])
        for name, score in scores.items()
    }
