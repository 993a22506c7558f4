"""The coupling of a network drawn: which channels go from which layers at once."""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from experiments.records.wording import cost
from experiments.report.pictures import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    VERMILION,
    WIDTH,
    marks,
    subtitle,
    title,
)
from pfrl.files import write_text, write_whole
from pfrl.graph import Graph, Group, Layer

SKY, PURPLE = "#56B4E9", "#CC79A7"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""Neighbouring groups differ; beyond six the colours come again."""
MARKERS = {"channels": "o", "heads": "s"}
ROW, COLUMN = 0.19, 0.27
"""Inches of a layer and of a group."""
GAP = 0.5
"""Columns between the last group and what is frozen."""
LONGEST_NAME = 34


def short_names(groups: Iterable[str]) -> dict[str, str]:
    """``g1``, ``g2``, ... by group, in order: what tables and pictures call them."""
    return {name: f"g{number}" for number, name in enumerate(groups, 1)}


def short_count(value: int) -> str:
    """``640``, ``2.30 k``, ``40.6 M``."""
    return str(value) if value < 1_000 else cost("macs", value)


def dot_source(graph: Graph, title: str) -> str:
    """Graphviz source: layers as boxes in order of execution, every group an ellipse.

    An edge into a group comes from a layer that produces its channels, one out
    of it goes to a layer that reads them; all of a group's are of one colour.
    """
    lines = [
        "digraph coupling {",
        f"  graph [label={_quoted(title)}, labelloc=t, fontname=Helvetica, rankdir=TB];",
        "  node [fontname=Helvetica, fontsize=10];",
    ]
    number = {layer.name: f"layer{place}" for place, layer in enumerate(graph.layers)}
    for layer in graph.layers:
        kernel = "×".join(map(str, layer.kernel_shape))
        text = f"{layer.name}\n{layer.kind} {kernel}\n{short_count(layer.macs)} MACs"
        frozen = " style=filled, fillcolor=lightgrey," if _is_frozen(graph, layer) else ""
        lines.append(f"  {number[layer.name]} [shape=box,{frozen} label={_quoted(text)}];")
    # Invisible edges keep the layers below each other.
    names = list(number.values())
    lines += [
        f"  {above} -> {below} [style=invis, weight=9];"
        for above, below in itertools.pairwise(names)
    ]
    short = short_names(graph.groups)
    for place, group in enumerate(graph.groups.values()):
        colour, node = CYCLE[place % len(CYCLE)], short[group.name]
        text = f"{node}: {group.size} {group.kind}\n{group.name}"
        lines.append(
            f'  {node} [shape=ellipse, color="{colour}", fontcolor="{colour}",'
            f" label={_quoted(text)}];"
        )
        for order, producer in enumerate(group.producers):
            below = "true" if order == 0 else "false"
            lines.append(f'  {number[producer]} -> {node} [color="{colour}", constraint={below}];')
        lines += [
            f'  {node} -> {number[consumer]} [color="{colour}", constraint=false];'
            for consumer in group.consumers
        ]
    return "\n".join([*lines, "}"]) + "\n"


def coupling_figure(graph: Graph, heading: str) -> Figure:
    """Layers as rows in order of execution, groups as columns.

    The size grows with both. A line joins all layers of a group: filled where a
    layer produces its channels, open where it reads them.
    """
    rows, columns = len(graph.layers), len(graph.groups)
    width = max(WIDTH, 4.2 + COLUMN * (columns + 1))
    figure = Figure(figsize=(width, 2.1 + ROW * max(rows, 4)), layout="constrained")
    axes = figure.subplots()
    title(figure, heading)
    text = "A column is a group: a channel goes from all layers on its line at once"
    subtitle(axes, text, pad=28)
    row = {layer.name: place for place, layer in enumerate(graph.layers)}
    _rows(axes, graph.layers, columns)
    for column, group in enumerate(graph.groups.values()):
        _line(axes, column, group, row)
    frozen = [row[layer.name] for layer in graph.layers if _is_frozen(graph, layer)]
    axes.plot([columns + GAP] * len(frozen), frozen, linestyle="none", marker="x", color=DARK)
    _columns(axes, graph)
    figure.legend(
        handles=_legend(graph), loc="outside lower left", ncols=4, fontsize=8.5, frameon=False
    )
    return figure


def save_svg(path: Path, figure: Figure) -> Path:
    """The figure as an SVG whose text is text; the same figure makes the same file.

    Raises:
      FileError: if the disk is full or the place cannot be written to.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pfrl"}):
        return write_whole(
            path, lambda stream: figure.savefig(stream, format="svg", metadata={"Date": None})
        )


def save_dot(path: Path, graph: Graph, title: str) -> Path:
    """``dot_source`` as a file; raises ``FileError`` if it cannot be written."""
    return write_text(path, dot_source(graph, title))


def _quoted(text: str) -> str:
    """A string of Graphviz: escaped like JSON, but for letters beyond ASCII."""
    return json.dumps(text, ensure_ascii=False)


def _is_frozen(graph: Graph, layer: Layer) -> bool:
    """Whether any of a layer's output channels cannot be removed."""
    return bool(graph.frozen.get(layer.name))


def _line(axes: Axes, column: int, group: Group, row: dict[str, int]) -> None:
    colour, marker = CYCLE[column % len(CYCLE)], MARKERS[group.kind]
    producers = [row[name] for name in group.producers]
    consumers = [row[name] for name in group.consumers]
    places = [*producers, *consumers]
    axes.vlines(column, min(places), max(places), color=colour, linewidth=1.2, zorder=2)
    marks(axes, [column] * len(consumers), consumers, marker, 8, "white", colour, zorder=3)
    marks(axes, [column] * len(producers), producers, marker, 4.5, colour, colour, zorder=4)


def _rows(axes: Axes, layers: Sequence[Layer], columns: int) -> None:
    names = [
        layer.name if len(layer.name) <= LONGEST_NAME else f"…{layer.name[1 - LONGEST_NAME :]}"
        for layer in layers
    ]
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-0.7, columns + GAP + 0.8)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=PALE, alpha=0.45, linewidth=0, zorder=0)
    axes.set_ylabel("layer, in order of execution")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _columns(axes: Axes, graph: Graph) -> None:
    """Short names below the columns, and above them with the sizes."""
    short = short_names(graph.groups)
    places = [*range(len(short)), len(short) + GAP]
    axes.set_xticks(places, [*short.values(), "frozen"], fontsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("channel group")
    above = blended_transform_factory(axes.transData, axes.transAxes)
    labels = {
        column: f"{short[g.name]}\n{g.size}" for column, g in enumerate(graph.groups.values())
    }
    labels |= {places[-1]: "frozen\n", -0.7: "group\nsize "}
    for column, label in labels.items():
        axes.text(
            column,
            1.005,
            label,
            transform=above,
            ha="right" if column < 0 else "center",
            va="bottom",
            fontsize=7.5,
            color=GREY if column < 0 else DARK,
        )


def _legend(graph: Graph) -> list[Line2D]:
    def mark(label: str, marker: str, size: float, filled: bool = True) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markersize=size,
            color=DARK,
            markerfacecolor=DARK if filled else "white",
            label=label,
        )

    entries = [
        mark("produces the group's channels", "o", 4.5),
        mark("reads them", "o", 8, filled=False),
        mark("has output channels that stay", "x", 6),
    ]
    if any(group.kind == "heads" for group in graph.groups.values()):
        entries.insert(2, mark("the same, of whole heads", "s", 4.5))
    return entries
