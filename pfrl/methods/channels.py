"""Which channels stay: the ones with the largest kernels (Li et al. 2017, arXiv 1608.08710)."""

from collections.abc import Mapping

import numpy as np

from pfrl.graph import Graph, Variables


def l1_scores(graph: Graph, variables: Variables) -> dict[str, np.ndarray]:
    """L1 norm of all kernel slices that go with a channel, ``[channels]`` for every group.

    The slices of the layers that produce a channel and of those that read it
    count alike: a channel matters as much as is put into it and taken from it.
    """
    kernels = {layer.kernel for layer in graph.layers}
    scores = {}
    for name, group in graph.groups.items():
        total = np.zeros(group.size)
        for member in group.members:
            if member.parameter in kernels:
                kernel = np.abs(np.asarray(variables[member.parameter]))
                others = tuple(a for a in range(kernel.ndim) if a != member.axis)
                total += kernel.sum(axis=others)[member.indices].sum(axis=1)
        scores[name] = total
    return scores


def choose(scores: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Indices of the ``counts[group]`` channels with the highest scores, in ascending order.

    Of equal scores the lower index stays.
    """
    return {
        name: np.sort(np.argsort(-score, kind="stable")[: counts[name]])
        for name, score in scores.items()
    }
