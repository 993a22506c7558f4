"""Seconds of the closed-form repair: gathering once for a network, and solving for every policy."""

import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from pfrl.compression.policy import Policy
from pfrl.graph import from_nnx, trace
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.repair.reconstruct import gather, repair
from pfrl.models.catalogue import build

IMAGE, CLASSES, BATCH = (32, 32, 3), 10, 100
POSITIONS = 10
LOWEST = 0.25
"""The policies keep a random share from here to 1 of every group."""


class Repaired(NamedTuple):
    """Of a network, seconds of gathering once, and of a policy's repair: median and largest."""

    name: str
    images: int
    gathering: float
    solving: float
    slowest: float


def time_repairs(names: Sequence[str], images: int, policies: int, seed: int) -> list[Repaired]:
    """Gather from images of noise in batches of 100, then repair for random policies in turn.

    The first policy is not timed: it warms the linear algebra up.
    """
    rng = np.random.default_rng(seed)
    noise = [
        rng.standard_normal((BATCH, *IMAGE), np.float32) for _ in range(max(images // BATCH, 1))
    ]
    found = []
    for name in names:
        source = from_nnx(build(name, CLASSES, IMAGE, seed))
        graph = trace(source, noise[0])
        start = time.perf_counter()
        grams = gather(graph, source.variables, noise, POSITIONS, seed)
        gathering = time.perf_counter() - start
        scores = l1_scores(graph, source.variables)
        seconds = []
        for _ in range(policies + 1):
            keep = {group: rng.uniform(LOWEST, 1) for group in graph.groups}
            kept = choose(scores, Policy(keep).counts(graph))
            start = time.perf_counter()
            repair(graph, grams, source.variables, kept)
            seconds.append(time.perf_counter() - start)
        found.append(
            Repaired(name, len(noise) * BATCH, gathering, median(seconds[1:]), max(seconds[1:]))
        )
    return found
