"""What was gathered of a base network, kept in the user's cache folder for the next start."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from pfrl.cpu import cores
from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import find_kernels
from pfrl.methods.quantization.histogram import Histogram
from pfrl.methods.quantization.ranges import MeanInput, MeanInputs, Observation, Observations
from pfrl.methods.repair.reconstruct import Gram, Grams
from pfrl.training.identity import facts_of_program, named
from pfrl.user_cache import Arrays, digest, digest_of_code, instructions, kept_arrays

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy")


class Gathered(NamedTuple):
    """See ``CalibrationStatistics``; what was not asked for is empty."""

    moments: Grams
    inputs: MeanInputs
    sites: Observations


def kept_gathered(
    graph: Graph,
    variables: Variables,
    batches: Sequence[tuple[Any, Any]],
    asked: Mapping[str, Any],
    make: Callable[[], Gathered],
) -> Gathered:
    """What an earlier start gathered of the same network from the same images.

    Args:
      graph: of the base network.
      variables: its arrays.
      batches: that are looked at.
      asked: plain data that decide besides about what is gathered.
      make: gathers it.
    """
    key = digest({**facts_of_network(graph), **asked}, named([variables, batches]))
    return from_arrays(graph, kept_arrays("statistics", key, lambda: as_arrays(make())))


def facts_of_network(graph: Graph) -> dict[str, Any]:
    """Plain data of all but its arrays that decides about the numbers that a network gives here:
    what ``facts_of_code`` has, and what XLA compiles for."""
    return {
        **facts_of_code(graph),
        "versions": {package: version(package) for package in PACKAGES},
        "device": [jax.default_backend(), jax.devices()[0].device_kind, jax.device_count()],
        "cpu": [instructions(), len(cores()), os.environ.get("XLA_FLAGS", "")],
    }


def facts_of_code(graph: Graph) -> dict[str, Any]:
    """What a network computes, and the source of the project and of the user's plugins."""
    source = graph.source
    like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in source.variables.items()}
    program = facts_of_program(lambda v, x: source.apply(v, x, False)[0], like, graph.example)
    return {**program, "code": digest_of_code()}


def as_arrays(gathered: Gathered) -> Arrays:
    """Arrays by ``<what>/<number or name>/<field>``."""
    found: Arrays = {}
    for number, gram in enumerate(gathered.moments):
        found[f"moments/{number}/matrix"] = gram.matrix
        found[f"moments/{number}/rows"] = np.asarray(gram.rows)
    for name, each in gathered.inputs.items():
        found[f"inputs/{name}/mean"], found[f"inputs/{name}/magnitude"] = map(np.asarray, each)
    for name, site in gathered.sites.items():
        start, stop, counts = site.histogram
        found[f"sites/{name}/ends"] = np.asarray([site.low, site.high, start, stop])
        found[f"sites/{name}/counts"] = counts
    return found


def from_arrays(graph: Graph, arrays: Arrays) -> Gathered:
    """The reverse of ``as_arrays``, of the same graph.

    Raises:
      KeyError: if the arrays are of another one.
    """
    names: dict[str, list[str]] = {"moments": [], "inputs": [], "sites": []}
    for path in arrays:
        what, rest = path.split("/", 1)
        name = rest.rpartition("/")[0]
        if name not in names[what]:
            names[what].append(name)
    kernels = find_kernels(graph, graph.evaluation()) if names["moments"] else []
    moments = tuple(
        Gram(kernel, arrays[f"moments/{n}/matrix"], int(arrays[f"moments/{n}/rows"]))
        for n, kernel in enumerate(kernels)
    )
    inputs = {
        name: MeanInput(arrays[f"inputs/{name}/mean"], arrays[f"inputs/{name}/magnitude"])
        for name in names["inputs"]
    }
    sites = {}
    for name in names["sites"]:
        low, high, start, stop = arrays[f"sites/{name}/ends"].tolist()
        sites[name] = Observation(low, high, Histogram(start, stop, arrays[f"sites/{name}/counts"]))
    return Gathered(moments, inputs, sites)
