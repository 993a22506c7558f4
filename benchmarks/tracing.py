"""Seconds that ``pfrl.trace`` takes, and how they grow with a network's depth."""

import time
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.graph import Source, trace
from pfrl.graph.frontends import as_source
from pfrl.models.catalogue import build

BY_DEPTH = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
OTHERS = ("resnet50", "densenet40", "vit_tiny")
SIDES = {"resnet50": 224, "vit_tiny": 224}
"""Pixels a side of the images that a network is traced for; 32 for the others."""


class Traced(NamedTuple):
    """A network, its layers and groups, and the median seconds of tracing it in both modes."""

    name: str
    layers: int
    groups: int
    seconds: float


def time_traces(names: Sequence[str], repeats: int) -> list[Traced]:
    """Trace every network ``repeats`` times, in turns; it is built abstractly before that."""
    sources: dict[str, tuple[Source, jax.ShapeDtypeStruct]] = {}
    for name in names:
        shape = (SIDES.get(name, 32), SIDES.get(name, 32), 3)
        network = nnx.eval_shape(partial(_built, name, shape))
        sources[name] = as_source(network), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    sizes: dict[str, tuple[int, int]] = {}
    for _ in range(repeats):
        for name, (source, x) in sources.items():
            start = time.perf_counter()
            graph = trace(source, x)
            seconds[name].append(time.perf_counter() - start)
            sizes[name] = len(graph.layers), len(graph.groups)
    return [Traced(name, sizes[name][0], sizes[name][1], median(seconds[name])) for name in names]


def _built(name: str, shape: tuple[int, int, int]) -> nnx.Module:
    return build(name, 10, shape, nnx.Rngs(0))


def growth(found: Sequence[Traced]) -> float:
    """The exponent p of seconds ~ layers^p, by least squares of the logarithms; 1 is linear."""
    layers = np.log([each.layers for each in found])
    seconds = np.log([each.seconds for each in found])
    return float(np.polyfit(layers, seconds, 1)[0])
