"""Which channels stay: the ones with the highest scores."""

from collections.abc import Mapping

import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.methods.channels.criteria import channel_scores


def l1_scores(graph: Graph, variables: Variables) -> dict[str, np.ndarray]:
    """L1 norm of all kernel slices that go with a channel (arXiv 1608.08710), ``[channels]``."""
    return channel_scores(graph, variables, "l1")


def choose(scores: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Indices of the ``counts[group]`` channels with the highest scores, in ascending order.

    Of equal scores the lower index stays.
    """
    return {
        name: np.sort(np.argsort(-score, kind="stable")[: counts[name]])
        for name, score in scores.items()
    }
