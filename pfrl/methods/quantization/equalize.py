"""Cross-layer equalization: channels are scaled so that a tensor's channels are of one size.

Nagel et al. 2019, arXiv 1906.04721, section 4.1: what makes a channel is divided by ``s``, what
reads it is multiplied with ``s``, which no positively homogeneous activation notices::

    s_i = √(r1_i r2_i) / r2_i

with ``r1_i`` and ``r2_i`` the largest weight that makes and that reads channel ``i`` (eq. 9). The
paper takes pairs of layers one after the other; here all layers that make or read a channel group
are scaled at once, which residual streams ask for. What is scaled behind a normalisation are its
factor and its bias, so that it holds in training as well.

Whether nothing notices is tried out: a group where the outputs change is left as it is, such as one
whose channels meet ReLU6, GELU or a softmax.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pfrl.cpu.backend import compiled
from pfrl.graph import Graph, Group, Variables
from pfrl.graph.addends import find_addends
from pfrl.graph.layers import find_layers
from pfrl.methods.base import Statistics
from pfrl.methods.quantization.base import Equalizer
from pfrl.registry import register
from pfrl.tasks.outputs import as_one

MOST = 8.0
"""How much larger or smaller a channel becomes at most."""
TRIED = 4.0
"""By which the channels of a group are divided to see whether the outputs change, ..."""
SAME = 1e-3
"""... as a share of the largest output."""
TINY = 1e-8


def equalized(graph: Graph, variables: Variables, x: Any) -> Variables:
    """The variables of the same function, its channels scaled.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      x: a batch of inputs, on which it is tried out that the function is the same.
    """
    run = compiled(lambda v: as_one(graph.source.apply(v, x, False)[0]))
    expected = np.asarray(run(variables))
    normalised, found = _normalised(graph), dict(variables)
    for group in graph.groups.values():
        if group.kind != "channels":
            continue
        factors = _factors(graph, group, normalised)
        if factors is None or not _same(run, found, group, factors, expected):
            continue
        found = _scaled(found, group, factors, _sizes(graph, group, factors, found))
    return found


def _same(
    run: Any, variables: Variables, group: Group, factors: Mapping, expected: np.ndarray
) -> bool:
    tried = _scaled(variables, group, factors, np.full(group.size, TRIED))
    off = np.abs(np.asarray(run(tried)) - expected).max()
    return bool(off <= SAME * np.abs(expected).max())


def _normalised(graph: Graph) -> set[str]:
    """Layers behind which a normalisation scales, or subtracts a mean."""
    names = sorted(graph.source.variables)
    labelled = graph.evaluation()
    layers = find_layers(labelled, names)
    return {
        layers[number]
        for number, addend in find_addends(labelled, names).items()
        if addend.factors or addend.variable not in graph.source.trainable
    }


def _factors(graph: Graph, group: Group, normalised: set[str]) -> dict[int, int] | None:
    """By member of the group, to which power of ``s`` it is multiplied; None if that is unclear."""
    layers = {layer.kernel: layer for layer in graph.layers}
    behind = [name in normalised for name in group.producers]
    if not behind or any(behind) != all(behind):
        return None
    found: dict[int, int] = {}
    for place, member in enumerate(group.members):
        name, rank = member.parameter, np.ndim(graph.source.variables[member.parameter])
        layer = layers.get(name)
        if layer is None:
            # Statistics of a normalisation stay, and its mean is that of the unscaled sums.
            found[place] = -1 if name in graph.source.trainable and rank == 1 else 0
            continue
        makes = member.axis == rank - 1
        reads = layer.kind == "depthwise" or not makes
        found[place] = int(reads) - int(makes and not behind[0])
    return found


def _sizes(graph: Graph, group: Group, factors: Mapping, variables: Variables) -> np.ndarray:
    """``s`` of every channel, above zero."""
    made, read = np.zeros(group.size), np.zeros(group.size)
    kernels = {layer.kernel for layer in graph.layers}
    for place, member in enumerate(group.members):
        array = np.abs(np.asarray(variables[member.parameter], np.float64))
        largest = np.moveaxis(array, member.axis, 0).reshape(array.shape[member.axis], -1).max(1)
        each = largest[member.indices].max(1)
        if member.parameter in kernels and factors[place] > 0:
            read = np.maximum(read, each)
        elif factors[place] < 0:
            # A normalised value is within some deviations: its factor says how large it gets.
            made = np.maximum(made, each)
    whole = (made > TINY) & (read > TINY)
    sizes = np.sqrt(np.divide(made, read, where=whole, out=np.ones(group.size)))
    middle = np.exp(np.log(sizes[whole]).mean()) if whole.any() else 1.0
    return np.where(whole, np.clip(sizes / middle, 1 / MOST, MOST), 1.0)


def _scaled(
    variables: Variables, group: Group, factors: Mapping[int, int], sizes: np.ndarray
) -> Variables:
    found = dict(variables)
    for place, member in enumerate(group.members):
        if factors[place]:
            array = np.asarray(found[member.parameter])
            along = np.ones(array.shape[member.axis])
            along[member.indices] = (sizes ** factors[place])[:, None]
            shape = [-1 if axis == member.axis else 1 for axis in range(array.ndim)]
            found[member.parameter] = (array * along.reshape(shape)).astype(array.dtype)
    return found


def _prepare(statistics: Statistics) -> Variables:
    return equalized(statistics.graph, statistics.variables, statistics.batches[0][0])


register("equalizer", "cross_layer", Equalizer(_prepare, frozenset({"batches"})))
