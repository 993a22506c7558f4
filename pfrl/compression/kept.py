"""What was gathered of a base network, kept in the user's cache folder for the next start."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu import cores
from pfrl.data import Batches
from pfrl.data.streams import Undecoded
from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import find_kernels
from pfrl.methods.quantization.histogram import Histogram
from pfrl.methods.quantization.ranges import MeanInput, MeanInputs, Observation, Observations
from pfrl.methods.repair.reconstruct import Gram, Grams
from pfrl.user_cache import Arrays, digest, digest_of_code, instructions, kept_arrays

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy")
READ_AT_ONCE = 64
"""Images that are in memory at the same time while all of a split are looked at."""


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
    what ``facts_of_program`` has, and what XLA compiles for."""
    return {
        **facts_of_program(graph),
        "versions": {package: version(package) for package in PACKAGES},
        "device": [jax.default_backend(), jax.devices()[0].device_kind, jax.device_count()],
        "cpu": [instructions(), len(cores()), os.environ.get("XLA_FLAGS", "")],
    }


def facts_of_program(graph: Graph) -> dict[str, Any]:
    """What a network computes, and the source of the project and of the user's plugins."""
    source = graph.source
    like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in source.variables.items()}
    program = jax.make_jaxpr(lambda v, x: source.apply(v, x, False)[0])(like, graph.example)
    return {
        # Where functions of this process lie in its memory says nothing.
        "program": re.sub(r" at 0x[0-9a-f]+", "", str(program)),
        "constants": digest(None, named(program.consts)),
        "code": digest_of_code(),
    }


def named(tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The leaves of a tree of arrays with their places as names, one after the other."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, Batches):
            for number, batch in enumerate(leaf):
                yield from ((f"{name}[{number}]{part}", array) for part, array in named(batch))
        elif isinstance(leaf, Undecoded):
            for start in range(0, len(leaf), READ_AT_ONCE):
                yield f"{name}[{start}:]", np.asarray(leaf[start : start + READ_AT_ONCE])
        else:
            yield name, np.asarray(_numbers(leaf))


def _numbers(leaf: Any) -> Any:
    """A key of random numbers as what it is made of."""
    key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if key else leaf


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
