"""What the layers of a network read, and what its sites hold: the one place that collects it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pfrl.cpu.backend import compiled
from pfrl.graph import Graph
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers
from pfrl.graph.sites import places
from pfrl.graph.slicing import run
from pfrl.graph.source import Variables

log = logging.getLogger(__name__)


class LayerInput(NamedTuple):
    """What one layer reads, or one site holds, in one run; traced.

    Attributes:
      layer: the name of the layer, or of the site.
      value: the array.
      labelled: the program that runs.
      number: of the layer's equation there, or of the site's value.
    """

    layer: str
    value: jax.Array
    labelled: Labelled
    number: int


class Reducer(NamedTuple):
    """What is kept of the layers' inputs, or of the sites, summed up batch after batch.

    Attributes:
      reduce: ``(layer's input, argument) -> arrays``; traced.
      arguments: ``inputs of a batch -> argument by layer``; layers without one are left out.
      merge: ``(what is kept of a layer, arrays of a batch) -> what is kept``; NumPy. At the
        first batch nothing is kept, which is None.
      sites: whether it looks at sites in place of layers.
    """

    reduce: Callable[[LayerInput, Any], Any]
    arguments: Callable[[Any], Mapping[str, Any]]
    merge: Callable[[Any, Any], Any]
    sites: bool = False


Look = Callable[[LayerInput], Any]


def read_inputs(
    graph: Graph, variables: Variables, x: Any, look: Look
) -> tuple[Any, dict[str, Any]]:
    """Outputs in evaluation mode, and by layer what ``look`` makes of its input.

    May be traced. Layers of which ``look`` makes None are left out.
    """
    return _read(graph, variables, x, look, None)[:2]


def _read(
    graph: Graph, variables: Variables, x: Any, look: Look, look_at_site: Look | None
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The same, and by site what ``look_at_site`` makes of it."""
    labelled, tree = graph.program(x, False)
    names, found = find_layers(labelled, sorted(graph.source.variables)), {}

    def on_layer(number: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = look(LayerInput(names[number], x, labelled, number))
        if seen is not None:
            found[names[number]] = seen
        return x, kernel

    seen_at: dict[str, Any] = {}
    at = {} if look_at_site is None else places(graph, len(labelled.program.shapes), False)

    def on_value(number: int, value: jax.Array) -> jax.Array:
        if number in at and look_at_site is not None:
            name = graph.sites[at[number]].name
            seen = look_at_site(LayerInput(name, value, labelled, number))
            if seen is not None:
                seen_at[name] = seen
        return value

    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    arguments = [*leaves, *map(jnp.asarray, jax.tree.leaves(x))]
    results = run(labelled, arguments, None, on_layer, on_value if at else None)
    return jax.tree.unflatten(tree, results)[0], found, seen_at


def collect(
    graph: Graph, variables: Variables, batches: Iterable[Any], reducers: Sequence[Reducer]
) -> list[dict[str, Any]]:
    """What every reducer keeps, by layer or site, of one run of the network on every batch.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      batches: inputs ``[N, ...]`` as the network takes them, best all of one shape: every
        other one compiles again.
      reducers: which share the run.
    """

    def reduced(variables: Variables, x: Any, arguments: list[dict[str, Any]]) -> Any:
        def looking(sites: bool) -> Look:
            def look(read: LayerInput) -> dict[int, Any] | None:
                return {
                    place: reducer.reduce(read, mine[read.layer])
                    for place, (reducer, mine) in enumerate(zip(reducers, arguments, strict=True))
                    if reducer.sites is sites and read.layer in mine
                } or None

            return look

        wanted = any(reducer.sites for reducer in reducers)
        return _read(graph, variables, x, looking(False), looking(True) if wanted else None)[1:]

    look_at = compiled(reduced)
    arrays = {name: jnp.asarray(value) for name, value in variables.items()}
    kept: list[dict[str, Any]] = [{} for _ in reducers]
    for count, x in enumerate(batches if reducers else ()):
        log.info("looking at training images: batch %d", count + 1)
        arguments = [dict(reducer.arguments(x)) for reducer in reducers]
        found = jax.device_get(look_at(arrays, x, arguments))
        for place, (reducer, mine) in enumerate(zip(reducers, kept, strict=True)):
            for name in arguments[place]:
                mine[name] = reducer.merge(mine.get(name), found[reducer.sites][name][place])
    return kept


def listed(kept: list[Any] | None, found: Any) -> list[Any]:
    """``Reducer.merge`` that keeps the arrays of every batch, in order."""
    return [*(kept or ()), found]
