"""The sites of a network, where it is rounded: in JAX, and in every integer file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax

from pfrl.graph.count import Count, product
from pfrl.graph.groups import group_index, unique
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import BATCH
from pfrl.graph.labelled.rounded import RoundedValue, find_rounded
from pfrl.graph.layers import Lengths, find_layers

if TYPE_CHECKING:
    from pfrl.graph.tracing import Graph


@dataclass(frozen=True)
class Site:
    """A tensor between fused operations.

    Attributes:
      name: of the first layer that reads it; else of the layer that makes it, and '.output'.
      values: its number in the program of evaluation and in that of training.
      readers: layers that read it, or what consists of it and so has its grid.
      grid: name of the first of the sites that share a grid, as all parts of a concatenation do.
      maker: the layer whose result it is; None for an input and for what no layer makes.
      parts: names of the sites that it is the sum, product or mean of.
      elements: of one example.
    """

    name: str
    values: tuple[int, int]
    readers: tuple[str, ...]
    grid: str
    maker: str | None
    parts: tuple[str, ...]
    elements: Count


class SiteError(ValueError):
    """A network whose sites cannot be found: it trains otherwise than it is evaluated, or takes
    one number of examples only."""


def network_sites(graph: Graph) -> tuple[Site, ...]:
    """The sites in the order of execution, the inputs first.

    Raises:
      SiteError: if the program of training has others than that of evaluation.
    """
    evaluated, trained = (_rounded(graph, train) for train in (False, True))
    for one, other in zip(evaluated, trained, strict=False):
        if one._replace(value=0) != other._replace(value=0):
            raise SiteError(_differs(one, other))
    if len(evaluated) != len(trained):
        raise SiteError(_differs(None, None))
    names: list[str] = []
    for place, site in enumerate(evaluated):
        made = "sum" if site.parts else "input"
        own = f"{site.maker}.output" if site.maker else made if place else "input"
        names.append(unique(site.readers[0] if site.readers else own, names))
    group_of = group_index(graph._atoms, graph._channels)
    labelled = graph.evaluation()
    lengths = Lengths(labelled, group_of, graph.full_counts(), max(graph.inputs[0].shape[0], 1))
    return tuple(
        Site(
            name,
            (one.value, other.value),
            one.readers,
            names[one.grid],
            one.maker,
            tuple(names[part] for part in one.parts),
            _elements(lengths, one.value),
        )
        for name, one, other in zip(names, evaluated, trained, strict=True)
    )


def _program(graph: Graph, train: bool) -> Labelled:
    """With ``BATCH`` examples; values have the same numbers as with any other number of them."""
    batch = graph.inputs[0].shape[0]
    x = tuple(
        jax.ShapeDtypeStruct((BATCH, *each.shape[1:]), each.dtype)
        if each.shape and each.shape[0] == batch
        else each
        for each in graph.inputs
    )
    try:
        return graph.program(x[0] if len(x) == 1 else x, train)[0]
    except (TypeError, ValueError) as error:
        raise SiteError(
            f"only a network that takes any number of examples can be quantized, and this one was"
            f" made for {batch}: {str(error).splitlines()[0]}"
        ) from error


def _rounded(graph: Graph, train: bool) -> list[RoundedValue]:
    labelled = _program(graph, train)
    names = sorted(graph.source.variables)
    layers = {
        number: (name, labelled.kernels[number])
        for number, name in find_layers(labelled, names).items()
    }
    inputs = range(len(names), len(names) + len(graph.inputs))
    return find_rounded(labelled.program, inputs, layers)


def _elements(lengths: Lengths, value: int) -> Count:
    """Of one example of a value, as a function of the channels that stay."""
    labelled = lengths.labelled
    shape = labelled.program.shapes[value]
    labels = labelled.values[value].labels
    whole = product(lengths.of(label, size) for label, size in zip(labels, shape, strict=True))
    return lengths.per_example(whole)


def _differs(one: RoundedValue | None, other: RoundedValue | None) -> str:
    where = ""
    if one is not None and other is not None:
        ours, theirs = (each.readers or each.maker or "a sum" for each in (one, other))
        where = f" ({ours} against {theirs})" if ours != theirs else ""
    return (
        f"in training the network rounds at other places than in evaluation{where};"
        " quantize a network whose layers are called alike in both modes"
    )


def places(graph: Graph, values: int, train: bool) -> dict[int, int]:
    """Places in the list of sites by number of a value of a program of one mode.

    Args:
      values: how many the program has, at whatever batch size.

    Raises:
      SiteError: if that is another program than the one with ``BATCH`` examples.
    """
    if values != len(_program(graph, train).program.shapes):
        raise SiteError(
            "the network computes otherwise for another number of examples;"
            " quantize a network whose program does not depend on it"
        )
    return {site.values[train]: place for place, site in enumerate(graph.sites)}
