"""What the layers of a network read when it runs: the one place that collects it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers
from pfrl.graph.slicing import run
from pfrl.graph.source import Variables
from pfrl.graph.tracing import Graph


class LayerInput(NamedTuple):
    """What one layer reads in one run; traced.

    Attributes:
      layer: its name.
      value: its input.
      labelled: the program that runs.
      number: of the layer's equation there.
    """

    layer: str
    value: jax.Array
    labelled: Labelled
    number: int


class Reducer(NamedTuple):
    """What is kept of the layers' inputs, summed up batch after batch.

    Attributes:
      reduce: ``(layer's input, argument) -> arrays``; traced.
      arguments: ``inputs of a batch -> argument by layer``; layers without one are left out.
      merge: ``(what is kept of a layer, arrays of a batch) -> what is kept``; NumPy. At the
        first batch nothing is kept, which is None.
    """

    reduce: Callable[[LayerInput, Any], Any]
    arguments: Callable[[Any], Mapping[str, Any]]
    merge: Callable[[Any, Any], Any]


def read_inputs(
    graph: Graph, variables: Variables, x: Any, look: Callable[[LayerInput], Any]
) -> tuple[Any, dict[str, Any]]:
    """Outputs in evaluation mode, and by layer what ``look`` makes of its input.

    May be traced. Layers of which ``look`` makes None are left out.
    """
    labelled, tree = graph.program(x, False)
    names, found = find_layers(labelled, sorted(graph.source.variables)), {}

    def on_layer(number: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen = look(LayerInput(names[number], x, labelled, number))
        if seen is not None:
            found[names[number]] = seen
        return x, kernel

    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    results = run(labelled, [*leaves, *map(jnp.asarray, jax.tree.leaves(x))], None, on_layer)
    return jax.tree.unflatten(tree, results)[0], found


def collect(
    graph: Graph, variables: Variables, batches: Iterable[Any], reducers: Sequence[Reducer]
) -> list[dict[str, Any]]:
    """What every reducer keeps, by layer, of one run of the network on every batch.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      batches: inputs ``[N, ...]`` as the network takes them, best all of one shape: every
        other one compiles again.
      reducers: which share the run.
    """

    @jax.jit
    def reduced(variables: Variables, x: Any, arguments: list[dict[str, Any]]) -> dict[str, Any]:
        def look(read: LayerInput) -> list[Any]:
            return [
                reducer.reduce(read, mine[read.layer]) if read.layer in mine else None
                for reducer, mine in zip(reducers, arguments, strict=True)
            ]

        return read_inputs(graph, variables, x, look)[1]

    arrays = {name: jnp.asarray(value) for name, value in variables.items()}
    kept: list[dict[str, Any]] = [{} for _ in reducers]
    for x in batches if reducers else ():
        arguments = [dict(reducer.arguments(x)) for reducer in reducers]
        found = jax.device_get(reduced(arrays, x, arguments))
        for place, (reducer, mine) in enumerate(zip(reducers, kept, strict=True)):
            for layer in arguments[place]:
                mine[layer] = reducer.merge(mine.get(layer), found[layer][place])
    return kept


def listed(kept: list[Any] | None, found: Any) -> list[Any]:
    """``Reducer.merge`` that keeps the arrays of every batch, in order."""
    return [*(kept or ()), found]
